"""Files are read in a process of their own, which is bounded and cannot harm this one."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
import uvloop

import made_files as made
from antiphon.knowledge import ParsingConfig
from antiphon.vectors import parse as parsing
from antiphon.vectors.base import Block
from antiphon.vectors.parse import Parser, Refused, parse

CONFIG = ParsingConfig()


async def pieces(content):
    """A file's bytes as a storage gives them."""
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


async def refusal(content, filename="", **bounds):
    with pytest.raises(Refused) as caught:
        await parse(pieces(content), filename, msgspec.structs.replace(CONFIG, **bounds))
    return caught.value


@pytest.fixture
def our_processes():
    """Counts the parsers that this process has started and that are still there."""

    def ours(process):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = f"PPid:\t{os.getpid()}\n" in (process / "status").read_text()
            return parent and b"antiphon.vectors.reader" in (process / "cmdline").read_bytes()
        return False

    return lambda: [each for each in Path("/proc").glob("[0-9]*") if ours(each)]


async def test_a_file_becomes_a_document():
    document = await parse(pieces(made.pdf(["Hello"], ["world"])), "x.pdf", CONFIG)

    assert document.blocks == (Block(text="Hello", page=1), Block(text="world", page=2))
    assert document.text() == "Hello\n\nworld"


async def test_the_names_ending_counts_where_the_bytes_do_not_tell():
    assert (await parse(pieces(b"# Head"), "X.MD", CONFIG)).blocks == (Block(text="Head", kind="heading", level=1),)
    assert (await parse(pieces(b"# Head"), "\0/..\ud800", CONFIG)).blocks == (Block(text="# Head"),)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "invalid_file", "0 bytes"),
        (b" \n\n\t", "invalid_file", "No text was found"),
        (made.pdf(["secret"], encrypt=True), "invalid_file", "encrypted PDF"),
        (made.png(), "unsupported_file", "a picture (PNG)"),
    ],
)
async def test_a_file_that_is_refused_says_why(content, code, said):
    error = await refusal(content)

    assert error.code == code
    assert said in error.message


async def test_a_pdf_of_ten_thousand_pages_is_refused():
    error = await refusal(made.pdf(*[None] * 10_000))

    assert (error.code, error.message) == (
        "invalid_file",
        "The file has 10000 pages; this server reads up to 5000.",
    )


async def test_a_bomb_is_not_unpacked_to_its_end():
    error = await refusal(made.bomb(2**27), expanded_bytes_max=2**24)

    assert "expands to more than the 16777216 bytes" in error.message


async def test_a_file_that_takes_too_long_is_given_up(our_processes):
    """A table of eight million rows, which is some seconds' work."""
    error = await refusal(b"a,b\n" * 2**23, "x.csv", time_s=1)

    assert error.message == "To read the file took longer than the 1 seconds that are allowed."
    assert our_processes() == []


async def test_a_file_that_takes_too_much_of_a_processor_is_given_up():
    error = await refusal(b"a,b\n" * 2**22, "x.csv", cpu_s=1)

    assert error.message == "To read the file, more than the 1 seconds of a processor that are allowed are needed."


async def test_a_file_that_needs_too_much_memory_is_given_up():
    error = await refusal(b"x" * 2**26, memory_bytes=2**27)

    assert error.code == "invalid_file"
    assert "134217728 bytes of memory" in error.message


async def test_a_file_with_too_much_text_is_refused():
    assert "more than the 1000 characters" in (await refusal(b"x" * 1001, chars_max=1000)).message
    assert "more than the 1000 characters" in (await refusal(b"# x\n" * 11, "a.md", chars_max=1000)).message


async def test_a_file_that_is_too_large_is_not_even_read():
    assert "larger than the 99 bytes" in (await refusal(b"x" * 100, file_bytes_max=99)).message


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (9, "server_error", "The system killed the file's parser, most likely for want of memory."),
        (11, "invalid_file", "The file's parser crashed (SIGSEGV): the file is damaged, or needs more than"),
        (-3, "invalid_file", "The file's parser crashed (status 3)"),
    ],
)
def test_what_a_crash_means_is_said(number, code, said):
    error = parsing._crash(number, CONFIG)

    assert error.code == code
    assert error.message.startswith(said)


async def test_when_nobody_waits_any_more_the_process_is_killed(our_processes):
    waiting = asyncio.create_task(parse(pieces(b"a,b\n" * 2**22), "x.csv", CONFIG))
    async with asyncio.timeout(10):
        while not our_processes():  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert our_processes() == []


async def test_an_error_of_the_storage_is_the_callers():
    async def broken():
        yield b"x"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await parse(broken(), "x", CONFIG)


async def test_files_wait_for_their_turn():
    reading, most = 0, 0

    async def source():
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0)
        reading -= 1
        yield b"text"

    parser = Parser(ParsingConfig(at_once=1))
    await asyncio.gather(*(parser.parse(source(), "a.txt") for _ in range(3)))

    assert most == 1


def test_the_process_has_neither_our_environment_nor_our_files(monkeypatch, our_processes):
    """With the server's event loop, which starts processes in its own way."""
    monkeypatch.setenv("SECRET", "s")

    async def look():
        reading = asyncio.create_task(parse(pieces(b"a,b\n" * 2**21), "x.csv", CONFIG))
        async with asyncio.timeout(10):
            while not (found := list(filter(is_reading, our_processes()))):  # noqa: ASYNC110
                await asyncio.sleep(0)
        [process] = found
        names = {str(each.readlink()) for each in (process / "fd").iterdir()}
        seen = names, (process / "environ").read_bytes(), (process / "stat").read_text().split()[5] == process.name
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return seen

    with socket.socket() as port:
        port.set_inheritable(True)
        files, environment, own_session = uvloop.run(look())

    assert (environment, own_session) == (b"", True)
    assert {name.partition("#")[0] for name in files} == {f"{tempfile.gettempdir()}/", os.devnull}


def is_reading(process):
    """It has set its bounds, and so has closed before what it was given."""
    return str(CONFIG.memory_bytes) in (process / "limits").read_text()


def test_a_text_needs_no_more_than_the_standard_library_and_the_decoder():
    """What a start costs is what it imports."""
    known = "import antiphon.vectors.reader, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True, check=True).stdout.split()

    assert not {"pypdfium2", "zipfile", "charset_normalizer", "asyncio", "csv", "html.parser"} & set(loaded)
