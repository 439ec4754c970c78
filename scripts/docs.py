"""Writes docs/reference from what the program declares: routes, settings, errors, hosts, commands.

`make docs` (`python scripts/docs.py --write`) writes the pages; without `--write` it says which are out of date.
`tests/docs` fails when they are.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from antiphon import cli, config, errors
from antiphon.api.server import ALIAS, ROUTES
from antiphon.presets import PRESETS, Quirks

REFERENCE: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
GENERATED: Final = "<!-- Written by scripts/docs.py (`make docs`): change the source, not this page. -->"


def routes() -> str:
    """Every route, in the order of `ROUTES`."""
    rows = [
        (
            f"`{each.method} {each.path.replace(':path', '')}`",
            each.summary,
            _type(each.body or each.form),
            _type(each.answer) + (", or a stream" if each.events is not None else ""),
        )
        for each in ROUTES
    ]
    return (
        "# Routes\n\n"
        f"Bodies and answers have OpenAI's shapes; the schemas stand in the server's own `/openapi.json`. Paths below"
        f" `/v1` are also served below `{ALIAS}`, as Llama Stack's older clients expect. `WEBSOCKET` is no method: the route"
        " is a GET that asks for a WebSocket; its body is a frame of the client's, its answer one of the server's.\n\n"
        + _table(("Route", "What it does", "Body", "Answer"), rows)
    )


def settings() -> str:
    """Every setting."""
    rows = [
        (f"`{each.path}`", f"`{each.variable}`", f"`{each.type}`", _default(each.default), each.description)
        for each in config.settings()
    ]
    return (
        "# Settings\n\n"
        "A setting comes from a file (TOML or JSON: `--config FILE` or `ANTIPHON_CONFIG`), over it from the environment,"
        " over it from a flag. In a path, `*` stands for a name you choose. In the environment, tables and lists are"
        " written as JSON. A string in the file may be `env:NAME`: the value of that variable. An unknown key is an error"
        " that suggests the nearest one. `antiphon check` prints what holds, secrets masked.\n\n"
        + _table(("Setting", "Variable", "Type", "Default", "What it does"), rows)
    )


def failures() -> str:
    """Every error."""
    rows = [
        (str(each.status), f"`{each.type}`", f"`{each.code}`" if each.code else "", _first_line(each))
        for each in sorted(_below(errors.ApiError), key=lambda kind: kind.status)
        if each is not errors.UpstreamRejected
    ]
    return (
        "# Errors\n\n"
        "Every refusal has OpenAI's body, on every route: `message` says what is wrong, with the value, and what is"
        " allowed; `param` names the field in dotted form.\n\n"
        '```json\n{"error": {"message": "...", "type": "...", "param": "input[0].role", "code": "..."}}\n```\n\n'
        "What a model host refuses keeps the host's status, message, type and code, and its `Retry-After`. After a"
        " stream has begun, an error is its terminal event: `response.failed` on Responses, an `error` object on chat"
        " completions. A code may be narrower than its row: `previous_response_not_found` is a `not_found`.\n\n"
        + _table(("Status", "Type", "Code", "What it means"), rows)
    )


def hosts() -> str:
    """Every preset and every quirk."""
    rows = [
        (
            f"`{each.name}`",
            f"`{each.base_url}`" if each.base_url else "",
            ", ".join(f"`{name}`" for name in each.url_envs),
            ", ".join(f"`{name}`" for name in each.key_envs),
        )
        for each in PRESETS.values()
    ]
    quirks = [
        (f"`{field.name}`", _default(field.default if field.default is not msgspec.NODEFAULT else {}))
        for field in msgspec.structs.fields(Quirks)
    ]
    return (
        "# Model hosts\n\n"
        "A host is found by itself when one of its address variables is set, or one of its key variables where it has an"
        " address of its own. Otherwise it is a table `hosts.NAME` in the configuration; any name that is not a preset's"
        " is a `custom` host.\n\n"
        + _table(("Preset", "Address", "Address variables", "Key variables"), rows)
        + "\n## Quirks\n\n"
        "How a host departs from OpenAI's dialect is data: `hosts.NAME.quirks.QUIRK` overrides what the preset says."
        " What each means stands beside it in `src/antiphon/presets.py`.\n\n"
        + _table(("Quirk", "For an unknown host"), quirks)
    )


def commands() -> str:
    """Every command and its flags."""
    return "# Commands\n" + "".join(_command("antiphon", cli.parser()))


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A command's section, then those of the commands below it."""
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]  # noqa: SLF001 (argparse has no public way to read a parser)
    rows = [
        (
            ", ".join(f"`{flag}`" for flag in each.option_strings) or f"`{each.metavar or each.dest.upper()}`",
            _help(each),
        )
        for each in parser._actions  # noqa: SLF001 (likewise)
        if each not in below and each.dest not in ("help", "version") and each.help is not argparse.SUPPRESS
    ]
    if not below:
        yield f"\n## {name}\n\n{(parser.description or '').strip()}\n"
        if rows:
            yield "\n" + _table(("Flag", "What it does"), rows)
    for action in below:
        for word, each in action.choices.items():
            yield from _command(f"{name} {word}", each)


def _help(action: argparse.Action) -> str:
    choices = f" ({', '.join(f'`{each}`' for each in action.choices)})" if action.choices else ""
    return (action.help or "") + choices


def _below(kind: type[errors.ApiError]) -> Iterator[type[errors.ApiError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _type(kind: object) -> str:
    name = getattr(kind, "__name__", "")
    return f"`{name}`" if name else ""


def _default(value: object) -> str:
    if isinstance(value, frozenset):
        value = sorted(value)
    text = msgspec.json.encode(value).decode()
    return "" if text in ('""', "{}", "[]", "null") else f"`{text}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "routes.md": routes,
    "settings.md": settings,
    "errors.md": failures,
    "hosts.md": hosts,
    "commands.md": commands,
}


def outdated(folder: Path = REFERENCE) -> dict[str, str]:
    """The pages that do not say what the program says, as they should be."""
    pages = {name: f"{GENERATED}\n{page()}" for name, page in PAGES.items()}
    return {name: text for name, text in pages.items() if not _holds(folder / name, text)}


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


def main(argv: Sequence[str]) -> int:
    """Writes the pages, or says which are out of date."""
    found = outdated()
    for name, text in found.items():
        print(f"docs/reference/{name}")
        if "--write" in argv:
            (REFERENCE / name).write_text(text, encoding="utf-8")
    return 1 if found and "--write" not in argv else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
