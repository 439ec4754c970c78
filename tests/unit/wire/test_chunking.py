"""What chunking strategies may be asked for."""

import msgspec
import pytest

from antiphon.wire.chunking import ChunkingStrategyRequestParam, ChunkingStrategyResponse, as_cut


def asked(text):
    return msgspec.json.decode(text, type=ChunkingStrategyRequestParam)


def shown(strategy):
    return msgspec.json.decode(msgspec.json.encode(as_cut(strategy)))


def test_auto_is_spelt_out_as_windows_of_800_tokens_of_which_400_repeat():
    windows = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}

    assert shown(None) == windows
    assert shown(asked('{"type":"auto"}')) == windows


@pytest.mark.parametrize(
    "strategy",
    [
        {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50}},
        {"type": "static", "static": {"max_chunk_size_tokens": 4096, "chunk_overlap_tokens": 0}},
        {"type": "structured", "structured": {"max_chunk_size_tokens": 300}},
    ],
)
def test_a_strategy_is_shown_as_it_was_asked_for(strategy):
    text = msgspec.json.encode(strategy)

    assert shown(asked(text)) == strategy
    assert msgspec.json.encode(msgspec.json.decode(text, type=ChunkingStrategyResponse)) == text


def test_structured_has_a_default_size():
    assert shown(asked('{"type":"structured"}')) == {"type": "structured", "structured": {"max_chunk_size_tokens": 800}}


@pytest.mark.parametrize(
    ("size", "overlap", "said"),
    [
        (99, 10, "max_chunk_size_tokens"),
        (4097, 10, "max_chunk_size_tokens"),
        (100, -1, "chunk_overlap_tokens"),
        (101, 51, "must not exceed half"),
    ],
)
def test_sizes_outside_openais_limits_are_refused(size, overlap, said):
    with pytest.raises(msgspec.ValidationError, match=said):
        asked(f'{{"type":"static","static":{{"max_chunk_size_tokens":{size},"chunk_overlap_tokens":{overlap}}}}}')
