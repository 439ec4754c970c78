"""Markers in a model's text become citations, however they are cut; and markers again for the model."""

from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.cite import Citer, citable, marked
from antiphon.models.base import CallStart, Cited, Finish, Text
from antiphon.wire.items import FileSearchCall, InputText, Message, OutputText

NAMES = {"file-1a": "a.pdf", "file_2b": "b.md", "doc:7": "c.txt"}


def cited(*texts, names=NAMES):
    citer = Citer(names)
    events = [event for text in texts for event in citer.feed([Text(text)])] + citer.feed([Finish("stop")])
    said = "".join(event.text for event in events if isinstance(event, Text))
    files, length = [], 0
    for event in events:
        length += len(event.text) if isinstance(event, Text) else 0
        if isinstance(event, Cited):
            files.append((event.annotation["file_id"], length))
    assert events[-1] == Finish("stop")
    return said, files


def test_a_marker_is_taken_out_with_the_space_before_it():
    assert cited("It has 128 <|file-1a|>. Good.") == ("It has 128. Good.", [("file-1a", 10)])


def test_an_annotation_names_the_file():
    (event,) = Citer(NAMES).feed([Text("<|file_2b|>")])
    assert event == Cited({"type": "file_citation", "file_id": "file_2b", "filename": "b.md"})


def test_two_files_at_one_place_are_two_citations():
    assert cited("So <|file-1a|><|file_2b|>.") == ("So.", [("file-1a", 2), ("file_2b", 2)])


def test_an_invented_file_is_taken_out_and_not_cited():
    assert cited("So <|file-999|>.") == ("So.", [])


def test_what_is_no_file_stays():
    text = "a < b, c |> d, <|im_end|>, <| file-1a |>, 2 <"
    assert cited(text) == (text, [])


def test_a_document_of_any_name_is_cited_once_a_search_has_returned_it():
    assert cited("x <|doc:7|>") == ("x", [("doc:7", 1)])
    assert cited("x <|doc:7|>", names={}) == ("x <|doc:7|>", [])


@given(
    st.lists(st.integers(0, 60), max_size=12),
    st.sampled_from(["A <|file-1a|>. B<|file_2b|> <|file-9|>! <|x|> <", "<|"]),
)
def test_it_does_not_matter_how_a_text_is_cut(cuts, text):
    ends = sorted({*(cut for cut in cuts if cut <= len(text)), len(text)})
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert cited(*pieces) == cited(text)


def test_what_is_held_back_comes_before_what_follows():
    call = CallStart(0, "c", "f")
    assert Citer(NAMES).feed([Text("wait <|file"), call]) == [Text("wait"), Text(" <|file"), call]


def test_log_probabilities_stay_with_their_text():
    citer = Citer(NAMES)
    event = Text(" <", logprobs=[])
    assert citer.feed([event]) == []
    assert citer.feed([Text("b")]) == [Text(" <b")]


@given(st.text(alphabet="ab <|", max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_the_model_sees_its_markers_again(text, places):
    annotations = [
        {"type": "file_citation", "file_id": "file-1a", "filename": "a.pdf", "index": min(place, len(text))}
        for place in sorted(places)
    ]
    part = OutputText(text=text, annotations=annotations)
    (again,) = marked(Message(role="assistant", content=[part])).content
    assert again.text.replace(" <|file-1a|>", "") == text.replace(" <|file-1a|>", "")
    assert again.text.count("<|file-1a|>") == len(places)
    assert again.annotations == []


def test_what_a_user_says_is_left_alone():
    message = Message(role="user", content=[InputText(text="hi")])
    assert marked(message) is message


def test_the_files_of_all_searches_may_be_cited():
    results = [{"file_id": "file-1a", "filename": "a.pdf"}, {"file_id": "file-3", "filename": ""}]
    items = [FileSearchCall(queries=["q"], results=results), FileSearchCall(queries=["q"])]
    assert citable(items) == {"file-1a": "a.pdf", "file-3": "unknown"}
