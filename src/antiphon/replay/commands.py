"""`antiphon recordings list|why|verify|scrub|import|export`: what one does with recordings at a terminal."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from antiphon.errors import ApiError, InvalidRequest
from antiphon.exchange import Outgoing, Replay
from antiphon.replay import canonical, miss, tools
from antiphon.replay.library import Library, Wanted, wanted_from
from antiphon.replay.verify import by_path, verify

SURVIVORS_MAX: Final = 20
_DEFAULT_DIRECTORY: Final = "recordings"
_REQUEST_MEMBERS: Final = frozenset({"method", "url", "host", "body"})
_ENDPOINT_BY_MEMBER: Final = (("messages", "/chat/completions"), ("prompt", "/completions"), ("input", "/embeddings"))

Say = Callable[[str], None]
Command = Callable[[argparse.Namespace, Say], int]


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `recordings` and its subcommands. Each sets `run`, to be called with the parsed arguments: the exit code."""
    parser = subparsers.add_parser("recordings", help="list, explain, verify, clean and convert recordings")
    commands = parser.add_subparsers(dest="recordings_command", required=True, metavar="COMMAND")
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument(
        "--recordings",
        type=Path,
        default=Path(_DEFAULT_DIRECTORY),
        metavar="DIR",
        help=f"the directory of recordings; by default `{_DEFAULT_DIRECTORY}`",
    )
    matching = argparse.ArgumentParser(add_help=False)
    matching.add_argument(
        "--match",
        choices=("strict", "tolerant"),
        default="strict",
        help="how Llama Stack's recordings are matched, by default strictly; our own always are",
    )

    def add(name: str, command: Command, what: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        one = commands.add_parser(name, parents=parents, help=what, description=f"{what[0].upper()}{what[1:]}.")
        one.set_defaults(run=_run(command))
        return one

    add("list", list_recordings, "show scenarios, hosts and models", directory)
    one = add("why", why, "tell which recording answers a request; exit code 1 if none does", directory, matching)
    one.add_argument(
        "request", type=Path, help="what a model host is sent: a body, or {method, url, host, body}, as JSON"
    )
    one.add_argument("--host", default="", help="the host's name, if the request does not say it")
    one.add_argument("--test-id", metavar="ID", help="the test that asks, as `__test_id` says it")
    add(
        "verify",
        verify_recordings,
        "alter each request at each place and prove that no altered one is answered; exit code 1 if one is",
        directory,
        matching,
    )
    one = add("scrub", scrub_recordings, "remove secrets from recordings", directory)
    one.add_argument("--pattern", action="append", default=[], metavar="REGEX", help="also remove what matches")
    one.add_argument("--header", action="append", default=[], metavar="NAME", help="also remove this header of answers")
    one = add("import", import_recordings, "convert recordings that other software made")
    one.add_argument("source", type=Path, metavar="DIR", help="the directory to read")
    one.add_argument("out", type=Path, metavar="OUT", help="the directory to write")
    one.add_argument("--format", choices=("llama-stack",), default="llama-stack", help="who made them")
    one = add("export", export_response, "cut the exchanges of responses out, as a scenario of their own", directory)
    one.add_argument("response_id", nargs="+", help="responses that were made in a recording mode")
    one.add_argument("--out", type=Path, required=True, metavar="FILE", help="the scenario to write")


def list_recordings(args: argparse.Namespace, say: Say) -> int:
    """Prints the scenarios with the number of their exchanges and their models, then the hosts."""
    library = Library.open(args.recordings)
    scenarios: dict[str, list[Any]] = {}
    for entry in library.entries:
        scenarios.setdefault(entry.scenario, []).append(entry)
    for name, entries in sorted(scenarios.items()):
        models = sorted({f"{entry.host}/{entry.model}" for entry in entries if entry.model})
        say(f"{len(entries):5}  {name}  [{', '.join(models) or 'models only'}]")
    say(f"{len(library.entries)} exchanges in {len(scenarios)} scenarios; {len(library.skipped)} files skipped")
    for reason, count in Counter(each.reason for each in library.skipped).most_common():
        say(f"{count:5}  {reason}")
    for host in library.hosts():
        say(f"host {host.name} at {host.base_url}: {len(host.models)} models")
    return 0


def why(args: argparse.Namespace, say: Say) -> int:
    """Prints which recording answers a request, or why none does. Exit code 1: none."""
    library = Library.open(args.recordings, args.match)
    wanted = wanted_in(args.request, host=args.host, test_id=args.test_id, library=library)
    found = library.knows(wanted)
    if found is None:
        say(miss.message(wanted, library.nearest(wanted), paths_max=SURVIVORS_MAX))
        return 1
    say(f"answered by {found.place} of scenario {found.scenario!r} (host {found.host!r}, {found.format} format)")
    unequal = canonical.differences(wanted.canonical_body, canonical.canonical(found.body))
    for path, left, right in unequal:
        say(f"  passed over at {path}: {canonical.quoted(left)} is wanted, {canonical.quoted(right)} is recorded")
    return 0


def verify_recordings(args: argparse.Namespace, say: Say) -> int:
    """Prints what `verify` found. Exit code 1: an altered request was answered."""
    verdict = verify(Library.open(args.recordings, args.match))
    if not verdict.recordings:
        raise InvalidRequest(f"{args.recordings} has no recorded model call: there is nothing to verify.")
    answered = len(verdict.survivors)
    say(f"{verdict.recordings} recordings, {verdict.altered} altered requests, {answered} answered all the same")
    if verdict.free:
        say(f"{verdict.free} alterations do not count: ids to which nothing refers, and redacted values")
    if verdict.unreachable:
        say(f"{len(verdict.unreachable)} recordings are not found even by their own request, such as:")
        for entry in verdict.unreachable[:SURVIVORS_MAX]:
            say(f"  {entry.place}")
    for path, survivors in list(by_path(verdict.survivors))[:SURVIVORS_MAX]:
        first = survivors[0]
        say(f"  {len(survivors)} x {path}, such as {first.entry.place} at {first.path}")
        say(f"      answered by {first.answered_by.place}")
    return 0 if verdict.sound else 1


def scrub_recordings(args: argparse.Namespace, say: Say) -> int:
    """Removes secrets and prints the files that had any."""
    patterns = tuple(tools.pattern(text) for text in args.pattern)
    headers = frozenset(name.lower() for name in args.header)
    changed = tools.scrub(_existing(args.recordings), tools.Extra(patterns=patterns, headers=headers))
    for file in changed:
        say(f"cleaned {file}")
    say(f"{len(changed)} files changed")
    return 0


def import_recordings(args: argparse.Namespace, say: Say) -> int:
    """Converts a directory and prints what became of it."""
    scenarios = tools.import_llama_stack(_existing(args.source), args.out)
    exchanges = sum(len(scenario.exchanges) for scenario in scenarios)
    say(f"{exchanges} exchanges written as {len(scenarios)} scenarios to {args.out}")
    return 0


def export_response(args: argparse.Namespace, say: Say) -> int:
    """Writes the exchanges of some responses to a file."""
    scenario = tools.export(args.recordings, args.response_id, args.out)
    say(f"{len(scenario.exchanges)} exchanges of {', '.join(args.response_id)} written to {args.out}")
    return 0


def wanted_in(file: Path, *, host: str, test_id: str | None, library: Library) -> Wanted:
    """The request in a file: a body, or an object with `method`, `url`, `host` and `body`."""
    try:
        given = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"{file} holds no request as JSON: {error}") from error
    whole = given if isinstance(given, dict) and "body" in given.keys() <= _REQUEST_MEMBERS else {"body": given}
    body = whole["body"]
    if not isinstance(body, dict):
        raise InvalidRequest(f"{file} holds no request: its body is no JSON object.")
    known = {entry.host: entry.base_url for entry in reversed(library.entries)}
    named, _, model = str(body.get("model")).partition("/")
    if named in known and model:  # as clients of this server name it
        host, body = host or named, {**body, "model": model}
    endpoint = next((path for member, path in _ENDPOINT_BY_MEMBER if member in body), "/chat/completions")
    asked = [entry.host for entry in library.entries if entry.model == body.get("model")]
    host = host or whole.get("host") or next(iter(asked or known), "")
    return wanted_from(
        Outgoing(
            method=whole.get("method", "POST"),
            url=whole.get("url") or known.get(host, "http://127.0.0.1/v1") + endpoint,
            headers={},
            body=msgspec.json.encode(body),
            host=host,
            replay=Replay(test_id=test_id),
        )
    )


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise InvalidRequest(f"{directory} is no directory.")
    return directory


def _run(command: Command) -> Callable[[argparse.Namespace], int]:
    """A command for the terminal: prints, and says what is wrong in one line instead of a traceback."""

    def run(args: argparse.Namespace) -> int:
        try:
            return command(args, print)
        except ApiError as error:
            print(f"antiphon: {error.message}", file=sys.stderr)
        except OSError as error:
            print(f"antiphon: {error}", file=sys.stderr)
        return 2

    return run
