"""What becomes of each kind of file: blocks out of bytes."""
# ruff: noqa: RUF001, E501, ISC003 - other scripts' letters are meant

import contextlib
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_files as made
from antiphon.vectors.base import Block
from antiphon.vectors.reader import clean, merged
from antiphon.vectors.readers.encoding import decoded
from antiphon.vectors.readers.kinds import read
from antiphon.vectors.readers.refused import Bounds, Refused
from antiphon.vectors.readers.tables import BLOCK_CHARS

BOUNDS = Bounds(pages_max=100, expanded_bytes_max=2**20, chars_max=2**20)


def blocks(content, filename="", bounds=BOUNDS):
    """Kind (with a heading's level), text and page of each block."""
    content = content.encode() if isinstance(content, str) else content
    found = (clean(block) for block in read(content, filename, bounds))
    return [(f"{b.kind}{b.level or ''}", b.text, *([b.page] if b.page else [])) for b in found if b.text]


def refusal(content, filename="", bounds=BOUNDS):
    with pytest.raises(Refused) as caught:
        blocks(content, filename, bounds)
    return f"{caught.value.code}: {caught.value.message}"


# ---------------------------------------------------------------- PDF


def test_pdf_has_its_text_by_pages():
    assert blocks(made.pdf(["Hello", "world"], None, ["Page three"])) == [
        ("text", "Hello\nworld", 1),
        ("text", "Page three", 3),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (made.pdf(["secret"], encrypt=True), "invalid_file: The file is an encrypted PDF"),
        (b"%PDF-1.4\nnothing of the kind", "invalid_file: The file is no valid PDF"),
        (made.pdf(["cut off"])[:60], "invalid_file: The file is no valid PDF"),
        (made.pdf(), "invalid_file: The file is no valid PDF"),
        (made.pdf(None, None), "invalid_file: No text was found on the PDF's 2 pages: they are scanned or drawn"),
        (made.pdf(*[None] * 101), "invalid_file: The file has 101 pages; this server reads up to 100"),
    ],
)
def test_pdfs_that_cannot_be_read(content, said):
    assert refusal(content).startswith(said)


# ---------------------------------------------------------------- office


def test_docx_has_headings_lists_tables_and_footnotes():
    body = (
        made.word_paragraph("Title", "berschrift1")
        + made.word_paragraph("Own style", "Mein")
        + made.word_paragraph("Below", "Zwei")
        + made.word_paragraph("Text &amp; more")
        + made.word_paragraph("point", list_level=0)
        + made.word_paragraph("lower", list_level=1)
        + made.word_table(("Name", "Born"), ("Ada", "1815"))
        + f"<w:sdt><w:sdtContent>{made.word_paragraph('in a field')}</w:sdtContent></w:sdt>"
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:t>kept</w:t><w:tab/><w:t>this</w:t></w:r></w:p>"
    )

    assert blocks(made.docx(body)) == [
        ("heading1", "Title"),
        ("heading1", "Own style"),
        ("heading2", "Below"),
        ("text", "Text & more"),
        ("text", "- point"),
        ("text", "  - lower"),
        ("table", "Name | Born\nAda | 1815"),
        ("text", "in a field"),
        ("text", "kept\tthis"),
        ("text", "A footnote."),
    ]


def test_an_empty_document_is_read_as_one():
    assert blocks(made.docx("", **{"word/document.xml": "<x/>"})) == [("text", "A footnote.")]


def test_pptx_has_slides_in_their_order_with_titles_and_notes():
    assert blocks(made.pptx()) == [
        ("heading1", "Welcome", 1),
        ("text", "Good morning", 1),
        ("text", "Notes: Smile", 1),
        ("heading1", "Numbers", 2),
        ("text", "All of them", 2),
        ("table", "a | b\nc | d", 2),
    ]


def test_xlsx_has_sheets_whose_header_is_repeated():
    found = blocks(made.xlsx())

    assert found[0] == ("heading1", "People", 1)
    assert len(found) > 4
    for kind, text, page in found[1:]:
        assert (kind, page, text.split("\n")[0]) == ("table", 1, "Name | Born |  | Share")
        assert len(text) <= BLOCK_CHARS + 100
    first_day = dt.date(1899, 12, 30) + dt.timedelta(45002)
    assert found[1][1].split("\n")[1] == f"Person number 2 | {first_day.isoformat()} |  | 0.3"


def test_odt_has_headings_lists_and_tables():
    assert blocks(made.odt()) == [
        ("heading2", "Part"),
        ("text", "Two   words"),
        ("text", "- point"),
        ("table", "a | b"),
    ]


def test_epub_has_its_chapters_in_the_order_of_the_spine():
    assert blocks(made.epub()) == [
        ("heading1", "One"),
        ("text", "It begins."),
        ("heading1", "Two"),
        ("text", "It ends."),
    ]


def test_rtf_has_its_text_without_its_formatting():
    text = rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0 Arial;}}{\*\generator x;}\b Bold\b0  \'cf\'f0\par " + (
        rb"{\uc1\u8364?}5 \{x\}\line next\par}"
    )

    assert blocks(text) == [("text", "Bold Пр"), ("text", "€5 {x}\nnext")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (made.bomb(2**22), "invalid_file: The file expands to more than the 1048576 bytes"),
        (made.bomb(2**22, claimed=1000), "invalid_file: The file is no valid zip archive: Bad CRC"),
        (made.laughs(), "invalid_file: The file's XML defines an entity ('a'), which is not allowed"),
        (made.outside(), "invalid_file: The file's XML defines an entity ('secret'), which is not allowed"),
        (made.docx("<w:p>"), "invalid_file: The file is no valid XML: mismatched tag"),
        (made.docx("<w:p>" * 600 + "</w:p>" * 600), "invalid_file: The file is no valid XML: its elements are nested"),
        (made.docx("")[:-30], "invalid_file: The file is no valid zip archive"),
        (made.zipped({"a.txt": "x"}), "unsupported_file: The file is a zip archive of no known kind"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99,
            "unsupported_file: The file is of the office format of before",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "invalid_file: The file is an encrypted office document",
        ),
    ],
)
def test_archives_that_cannot_be_read(content, said):
    assert refusal(content).startswith(said)


# ---------------------------------------------------------------- markup


def test_html_has_what_a_browser_shows():
    page = """<!doctype html><html><head><title>A page</title><style>p {}</style><script>var x = "<p>no</p>"</script></head>
    <body><nav>Menu</nav><h1>A page</h1><p>One
    two<br>three <b>bold</b> &amp; more</p><p hidden>no</p><div style="display: none"><div>no</div>no</div>
    <h2>List</h2><ul><li>first<li>second<ul><li>deeper</ul></ul>
    <table><tr><th>Name<th>Born<tr><td>Ada<td><p>1815</p></table>
    <pre><code>def f():
    return 1
</code></pre>after</body></html>"""

    assert blocks(page) == [
        ("heading1", "A page"),
        ("text", "One two\nthree bold & more"),
        ("heading2", "List"),
        ("text", "- first"),
        ("text", "- second"),
        ("text", "  - deeper"),
        ("table", "Name | Born\nAda | 1815"),
        ("code", "def f():\n    return 1"),
        ("text", "after"),
    ]


def test_html_is_read_in_the_encoding_that_it_declares():
    """The bytes could be Czech as well."""
    page = "<html><meta charset=windows-1250><p>Öňś</p>"

    assert blocks(page.encode("cp1250")) == [("text", "Öňś")]
    assert blocks(page.replace("windows-1250", "rot13").encode("cp1250")) == [("text", "Öòœ")]
    assert blocks(page.encode()) == [("text", "Öňś")]


def test_markdown_has_headings_code_and_tables():
    text = """Title
=====
Intro
goes on.
## Part ##
- one
- two

```python
# no heading

x = 1
```
Name | Born
-----|-----
Ada | 1815
Alan \\| T. | 1912
After the table.
"""

    assert blocks(text, "a.md") == [
        ("heading1", "Title"),
        ("text", "Intro\ngoes on."),
        ("heading2", "Part"),
        ("text", "- one\n- two"),
        ("code", "```python\n# no heading\n\nx = 1\n```"),
        ("table", "Name | Born\nAda | 1815\nAlan | T. | 1912"),
        ("text", "After the table."),
    ]


# ---------------------------------------------------------------- tables and data


@pytest.mark.parametrize(
    "text",
    [
        'Name,Born\nAda,"1815, in\nLondon"\n',
        'Name;Born\nAda;"1815, in\nLondon"\n',
        "Name\tBorn\nAda\t1815, in London\n",
    ],
)
def test_csv_has_the_delimiter_that_fits(text):
    assert blocks(text, "people.csv") == [("table", "Name | Born\nAda | 1815, in London")]


def test_a_long_csv_repeats_its_header():
    found = blocks("number,word\n" + "\n".join(f"{n},w{n}" for n in range(1_000)), "x.csv")

    assert len(found) > 5
    assert all(text.startswith("number | word\n") for _, text in found)
    assert sum(text.count("\n") for _, text in found) == 1_000


def test_json_on_one_line_is_written_so_that_it_can_be_read():
    assert blocks('{"name":"Ada","tags":["a","b"],"long":{"text":"' + "x" * 100 + '"}}', "a.json") == [
        ("code", '"name": "Ada"\n"tags": ["a", "b"]\n"long": {\n "text": "' + "x" * 100 + '"\n}')
    ]


@pytest.mark.parametrize("text", ['{\n  "a": 1.10\n}', '{"a": 1} // not JSON', "[" * 100_000])
def test_other_json_stays_as_it_is(text):
    assert blocks(text, "a.json") == [("code", text)]


def test_lines_of_json_stay_whole():
    lines = [f'{{"number": {n}}}' for n in range(300)]
    found = blocks("\n".join(lines), "a.jsonl")

    assert len(found) > 2
    assert "\n".join(text for _, text in found).split("\n") == lines


def test_source_code_is_cut_between_definitions():
    assert blocks("import os\n\n\ndef f():\n    x = 1\n\n    return x\n\n\nclass A:\n    pass\n", "a.py") == [
        ("code", "import os"),
        ("code", "def f():\n    x = 1\n\n    return x"),
        ("code", "class A:\n    pass"),
    ]


def test_text_has_paragraphs_and_pages():
    assert blocks("one\r\ntwo\r\n  \r\nthree") == [("text", "one\ntwo"), ("text", "three")]
    assert blocks("one\n\ntwo\fthree") == [("text", "one", 1), ("text", "two", 1), ("text", "three", 2)]


# ---------------------------------------------------------------- encodings

SAMPLES = {
    "cp1252": "Le cœur déçu mais l'âme plutôt naïve; Übung macht den Meister.",
    "cp1251": "Договор вступает в силу с момента подписания обеими сторонами.",
    "koi8_r": "Договор вступает в силу с момента подписания обеими сторонами.",
    "cp1254": "Sözleşme her iki tarafın imzaladığı tarihte yürürlüğe girer. Değişiklikler yazılı olarak yapılır.",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy; zażółć gęślą jaźń.",
    "cp1253": "Η σύμβαση τίθεται σε ισχύ με την υπογραφή και των δύο μερών.",
    "cp1255": "ההסכם ייכנס לתוקף עם חתימתו על ידי שני הצדדים.",
    "cp1256": "يدخل العقد حيز التنفيذ عند التوقيع عليه من قبل الطرفين.",
    "shift_jis": "契約は両当事者の署名をもって効力を生じる。東京都千代田区で開催されました。",
    "euc_jp": "契約は両当事者の署名をもって効力を生じる。東京都千代田区で開催されました。",
    "iso2022_jp": "契約は両当事者の署名をもって効力を生じる。東京都千代田区で開催されました。",
    "gb18030": "合同自双方签字之日起生效。会议在北京举行，参加人数超过一百人。",
    "big5": "合同自雙方簽字之日起生效。會議在臺北舉行，參加人數超過一百人。",
    "euc_kr": "계약은 양 당사자의 서명으로 효력이 발생한다. 회의는 서울에서 열렸다.",
    "utf-16-le": "Ein Vertrag, ohne Marke am Anfang. Договор.",
    "utf-16-be": "Ein Vertrag, ohne Marke am Anfang. Договор.",
    "utf-32-le": "Ein Vertrag, ohne Marke am Anfang. Договор.",
    "utf-32-be": "Ein Vertrag, ohne Marke am Anfang. Договор.",
}


@pytest.mark.parametrize("before", ["", "An ASCII line that tells nothing.\n" * 1_000])
@pytest.mark.parametrize("encoding", SAMPLES)
def test_older_encodings_are_recognised(encoding, before):
    text = before + (SAMPLES[encoding] + "\n") * 3

    assert (decoded(text.encode(encoding)) == text) is True


@pytest.mark.parametrize(
    "text", ["Grüße äöü", "Müller", "café", "Blåbærsyltetøy", "über", "¿Dónde está?", "São Paulo – 5 €"]
)
def test_a_few_words_of_the_west_are_recognised(text):
    assert decoded(text.encode("cp1252")) == text


@pytest.mark.parametrize(("text", "encoding"), [("Привет, мир", "cp1251"), ("Αθήνα", "cp1253"), ("你好，世界", "big5")])
def test_a_few_words_without_latin_letters_are_not_taken_for_latin(text, encoding):
    assert decoded(text.encode(encoding)) == text


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_as_it_is(encoding, text):
    if encoding == "utf-8" and text[0] == "\ufeff":
        return  # a mark, and no part of the text
    assert (decoded(text.encode(encoding)) == text) is True


def test_a_damaged_byte_does_not_change_the_encoding():
    text = SAMPLES["cp1251"] * 30

    assert decoded(text.encode() + b"\xff") == text + "\ufffd"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "invalid_file: The file is empty: it has 0 bytes"),
        (made.png(), "unsupported_file: The file is a picture (PNG)"),
        (b"\x7fELF\x02\x01\x01" + bytes(9), "unsupported_file: The file is a program (ELF)"),
        (bytes(range(256)) * 8, "unsupported_file: The file is of no kind that can be read: it is binary"),
        (b"\x01\x02\x03\x04\x05" * 9, "unsupported_file: The file is of no kind that can be read: it is binary"),
    ],
)
def test_what_is_no_text_is_refused(content, said):
    assert refusal(content, "a.txt").startswith(said)


@given(content=st.binary(max_size=300), name=st.sampled_from(["a.md", "a.html", "a.csv", "a.json", "a.jsonl", "a.py"]))
def test_any_bytes_are_read_or_refused(content, name):
    with contextlib.suppress(Refused):
        assert all(text for _, text, *_ in blocks(content, name))


@given(content=st.binary(max_size=100), name=st.sampled_from(["xl/workbook.xml", "word/document.xml", "content.xml"]))
def test_any_member_of_an_archive_is_read_or_refused(content, name):
    mimetype = "application/vnd.oasis.opendocument.text" if name == "content.xml" else "x"
    archive = made.zipped({"mimetype": mimetype, "[Content_Types].xml": made.TYPES, name: content})
    with contextlib.suppress(Refused):
        assert all(text for _, text, *_ in blocks(archive))


# ---------------------------------------------------------------- what is written


def test_the_shortest_paragraphs_of_a_page_are_put_together():
    parts = [
        Block(text="a" * 300, page=1),
        Block(text="b" * 50, page=1),
        Block(text="c" * 100, page=1),
        Block(text="d", page=2),
        Block(text=""),
        Block(text="e", kind="code", page=2),
    ]

    assert [block.text for block in merged(parts)] == ["a" * 300 + "\n\n" + "b" * 50, "c" * 100, "d", "e"]


def test_no_block_has_what_a_database_cannot_keep():
    assert clean(Block(text="\n a\0b\ud800c\x1b\r\nd\u2028e\rf \n")).text == " abc\nd\ne\nf"


@pytest.mark.parametrize("before", [b"", b"<a b='", b"<a><!--"])
def test_a_tag_without_end_is_given_up_long_before_the_archive_ends(before):
    content = made.docx("", **{"word/document.xml": before + b"0" * 2**25})

    said = refusal(content, bounds=Bounds(pages_max=1, expanded_bytes_max=2**26, chars_max=2**20))
    assert said == "invalid_file: The file is no valid XML: one of its tags is longer than 4194304 bytes."
