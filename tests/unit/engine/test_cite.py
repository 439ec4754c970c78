"""Markers in a model's text become citations, however they are cut; and markers again for the model."""

from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.cite import Citer, citable, marked
from antiphon.ids import page_id
from antiphon.models.base import CallStart, Cited, Finish, Text
from antiphon.wire.items import FileSearchCall, InputText, Message, OutputText, WebSearchCall

PAGE = "https://www.example.org/a_(b)?x=1"
MARKER = f"<|{page_id(PAGE)}|>"
LINK = f"[example.org]({PAGE})"


def file(id, name):
    return {"type": "file_citation", "file_id": id, "filename": name}


NAMES = {"file-1a": file("file-1a", "a.pdf"), "file_2b": file("file_2b", "b.md"), "doc:7": file("doc:7", "c.txt")}
PAGES = {page_id(PAGE): {"type": "url_citation", "url": PAGE, "title": "A"}}


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
    assert citable(items) == {"file-1a": file("file-1a", "a.pdf"), "file-3": file("file-3", "unknown")}


# ---------------------------------------------------------------- pages


def linked(*texts, known=PAGES):
    """The text, and each citation as the piece of the text that it covers."""
    citer = Citer(known)
    events = [event for text in texts for event in citer.feed([Text(text)])] + citer.feed([Finish("stop")])
    said, covered = "", []
    for event in events:
        if isinstance(event, Cited):
            covered.append((event.annotation["url"], said[len(said) - event.chars :]))
        elif isinstance(event, Text):
            said += event.text
    return said, covered


def test_a_pages_marker_becomes_a_link_which_the_citation_covers():
    assert linked(f"It is so {MARKER}.") == (f"It is so ({LINK}).", [(PAGE, LINK)])


def test_a_link_that_the_model_writes_is_cited_where_it_stands():
    text = f"See [the page]({PAGE}), and [again]({PAGE}&utm_source=openai)."
    first, second = f"[the page]({PAGE})", f"[again]({PAGE}&utm_source=openai)"
    assert linked(text) == (text, [(PAGE, first), (PAGE, second)])


def test_a_link_to_a_page_that_no_search_has_found_is_no_citation():
    text = "See [x](https://example.com/) and [y](https://www.example.org/)."
    assert linked(text) == (text, [])
    assert linked(f"So {MARKER}.", known={}) == ("So.", [])


@given(
    st.lists(st.integers(0, 200), max_size=12),
    st.sampled_from([f"A {MARKER}. [B]({PAGE})!{MARKER}{MARKER}[", f"[[x]({PAGE}) <|web-12345678|> [y]({PAGE}"]),
)
def test_it_does_not_matter_how_a_text_with_pages_is_cut(cuts, text):
    ends = sorted({*(cut for cut in cuts if cut <= len(text)), len(text)})
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert linked(*pieces) == linked(text)


def test_the_model_sees_its_page_markers_again_and_its_own_links_as_they_were():
    said = f"It is so {MARKER}. See [the page]({PAGE}). And so {MARKER}"
    text, covered = linked(said)
    annotations, at = [], 0
    for url, piece in covered:
        at = text.index(piece, at)
        annotations.append({"type": "url_citation", "url": url, "title": "A", "start_index": at})
        at += len(piece)
    (again,) = marked(Message(role="assistant", content=[OutputText(text=text, annotations=annotations)])).content
    assert again.text == said


def test_the_pages_of_all_searches_may_be_cited():
    assert citable([WebSearchCall(results=[{"url": PAGE, "title": "A"}]), WebSearchCall()]) == PAGES
