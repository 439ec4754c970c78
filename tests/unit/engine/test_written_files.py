"""Citations of files that code wrote: found in any cut of the text, and nowhere else."""

import pytest

from antiphon.engine.written_files import WrittenFile, WrittenFileCiter, written_files
from antiphon.models.base import Cited, Finish, Text
from antiphon.wire.items import CodeInterpreterCall, Memory, ShellCall

CONTAINER = f"cntr_{'a' * 48}"
FILES = {
    "/mnt/data/report.csv": WrittenFile(CONTAINER, "f1"),
    "/mnt/data/report.csv.gz": WrittenFile(CONTAINER, "f2"),
    "/mnt/data/out/a": WrittenFile(CONTAINER, "f3"),
}


def cited(*pieces):
    """The text that comes out, and what in it cites which file."""
    citer, said, found = WrittenFileCiter(FILES), "", []
    for batch in [*([Text(piece)] for piece in pieces), [Finish("stop")]]:
        for event in citer.feed(batch):
            if isinstance(event, Text):
                said += event.text
            elif isinstance(event, Cited):
                found.append((said[-event.chars :], event.annotation["file_id"]))
    return said, found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[it](sandbox:/mnt/data/report.csv).", [("sandbox:/mnt/data/report.csv", "f1")]),
        ("See /mnt/data/report.csv.", [("/mnt/data/report.csv", "f1")]),
        ("See report.csv, or report.csv.gz", [("report.csv", "f1"), ("report.csv.gz", "f2")]),
        ("`report.csv`", [("report.csv", "f1")]),
        ("/mnt/data/out/a", [("/mnt/data/out/a", "f3")]),
        ("a", []),
        ("myreport.csv report.csvx my-report.csv x/report.csv report.csv.bak report.csv-old", []),
        ("report", []),
        ("sandbox:/mnt/data/other.csv", []),
    ],
)
def test_names_are_found_however_they_are_cut(text, found):
    assert cited(text) == (text, found)
    assert cited(*text) == (text, found)
    for at in range(1, len(text)):
        assert cited(text[:at], text[at:]) == (text, found), at


def test_the_files_are_those_of_calls_with_a_container_of_this_server():
    memory = Memory(files={"/mnt/data/a": "f1"})
    where = {"type": "container_reference", "container_id": CONTAINER}
    assert written_files(
        [
            CodeInterpreterCall(id="1", container_id=CONTAINER, memory=memory),
            CodeInterpreterCall(id="2", container_id="cntr_other", memory=Memory(files={"/mnt/data/b": "f2"})),
            CodeInterpreterCall(id="3", container_id=CONTAINER),
            ShellCall(id="4", call_id="c", action={}, environment=where, memory=Memory(files={"/mnt/data/c": "f3"})),
            ShellCall(id="5", call_id="d", action={}),
        ]
    ) == {"/mnt/data/a": WrittenFile(CONTAINER, "f1"), "/mnt/data/c": WrittenFile(CONTAINER, "f3")}
