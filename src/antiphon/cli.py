"""The command line: serve, check, migrate, models, recordings, demo, version.

A command imports what it needs when it runs: the server costs a third of a second, and `antiphon recordings` must not
pay for it.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

from antiphon import __version__, config, telemetry
from antiphon.errors import ApiError
from antiphon.replay import commands
from antiphon.settings import masked

OK: Final = 0
FAILED: Final = 1
_FLAGS: Final = (
    "host",
    "port",
    "workers",
    "data_dir",
    "mode",
    "recordings",
    "recordings_format",
    "recordings_match",
    "replay_speed",
    "strict",
    "allow_unauthenticated",
    "log_level",
)
NO_HOST: Final = """\
No model host is configured. Add one, for instance:
  OPENAI_API_KEY=sk-... antiphon serve                     OpenAI's models, as openai/NAME
  OPENAI_BASE_URL=http://127.0.0.1:8000/v1 antiphon serve  any server that speaks chat completions
  ollama serve                                             found by itself on 127.0.0.1:11434"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = parser().parse_args(argv)
    args.given = sys.argv[1:] if argv is None else list(argv)
    try:
        code: int = args.run(args)
    except config.ConfigError as error:
        for problem in error.problems:
            print(f"antiphon: {problem}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return code


def parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    top = argparse.ArgumentParser(prog="antiphon", description="OpenAI's API over any model.")
    top.add_argument("--version", action="version", version=f"antiphon {__version__}")
    below = top.add_subparsers(required=True, metavar="COMMAND")
    serving = below.add_parser("serve", help="start the server", description="Starts the server.")
    _add_settings(serving)
    for name in ("--listening", "--parent"):  # of one process of several: what it inherits from the one that keeps them
        serving.add_argument(name, type=int, help=argparse.SUPPRESS)
    serving.set_defaults(run=serve)
    checking = below.add_parser("check", help="check the configuration and reach each host", description=check.__doc__)
    _add_settings(checking)
    checking.add_argument("--offline", action="store_true", help="do not ask the hosts")
    checking.set_defaults(run=check)
    migrating = below.add_parser("migrate", help="bring the database up to date", description=migrate.__doc__)
    _add_settings(migrating)
    migrating.set_defaults(run=migrate)
    listing = below.add_parser("models", help="list the models of all hosts", description=models.__doc__)
    _add_settings(listing)
    listing.add_argument("--json", action="store_true", help="print the body of GET /v1/models")
    listing.set_defaults(run=models)
    commands.add_commands(below)
    below.add_parser("demo", help="see the main job, offline", description=demo.__doc__).set_defaults(run=demo)
    below.add_parser("version", help="print the version").set_defaults(run=version)
    return top


# ---------------------------------------------------------------- commands


def serve(args: argparse.Namespace) -> int:
    """Starts the server and runs it until it is told to stop."""
    settings = _load(args)
    telemetry.configure(settings.log_level)

    def greet(listening: config.Config) -> None:
        print(greeting(listening), file=sys.stderr, flush=True)

    if settings.workers > 1 and args.listening is None:
        from antiphon import supervisor  # serves nothing itself

        return supervisor.serve(settings, greet, args.given)
    from antiphon import serving  # heavy: the web server

    if args.listening is not None:
        return serving.serve_beside(settings, args.listening, args.parent)
    return serving.serve(settings, greet)


def check(args: argparse.Namespace) -> int:
    """Prints the effective configuration, secrets masked, and asks database and hosts whether they are there."""
    settings = _load(args)
    print(json.dumps(config.effective(settings), indent=2))
    if args.offline:
        return OK
    from antiphon.check import reach, reach_database, reach_sandbox  # heavy: the HTTP client

    reports = asyncio.run(reach(settings))
    stored = [asyncio.run(reach_database(settings))] if settings.database_url else []
    stored += [asyncio.run(reach_sandbox(settings))] if settings.sandbox.enabled else []
    print()
    for report in stored + reports:
        print(report)
    if not any(report.state in ("OK", "NOT ASKED") for report in reports):
        print(NO_HOST if all(report.state == "ABSENT" for report in reports) else "No host can be reached.")
    return FAILED if any(report.state == "ERROR" for report in stored + reports) else OK


def migrate(args: argparse.Namespace) -> int:
    """Applies the migrations that the database lacks, and prints them; `antiphon serve` does so too when it starts."""
    settings = _load(args)
    from antiphon.stores.opening import migrated  # heavy: a database's driver

    try:
        applied = asyncio.run(migrated(settings))
    except ApiError as error:
        print(f"antiphon: {error.message}", file=sys.stderr)
        return FAILED
    for step in applied:
        print(step.name)
    if not applied:
        print("Nothing to do: the database is up to date.")
    return OK


def models(args: argparse.Namespace) -> int:
    """Lists every model that a request can name."""
    settings = _load(args)
    from antiphon.check import list_models  # heavy: the HTTP client

    found, broken = asyncio.run(list_models(settings))
    if args.json:
        import msgspec

        print(msgspec.json.encode({"object": "list", "data": found}).decode())
    else:
        for model in found:
            kind = "" if model.model_type == "llm" else f"  {model.model_type}"
            length = model.custom_metadata.embedding_dimension
            print(f"{model.id}{kind}{f' ({length})' if length else ''}")
    for problem in broken:
        print(f"antiphon: {problem}", file=sys.stderr)
    if not found and not broken:
        print(NO_HOST, file=sys.stderr)
    return FAILED if broken and not found else OK


def demo(_args: argparse.Namespace) -> int:
    """Drives a server on a recorded model with OpenAI's client: no network, no key."""
    from antiphon.demo import play  # only this command plays

    return play.main()


def version(_args: argparse.Namespace) -> int:
    """Prints the version."""
    print(__version__)
    return OK


def greeting(settings: config.Config) -> str:
    """What a person wants to know when the server starts: where it listens, what it found, how to add a host."""
    place = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = [f"Antiphon {__version__}: http://{place}:{settings.port}/v1, data in {settings.data_dir}"]
    if settings.workers > 1:
        lines.append(f"{settings.workers} processes; SIGHUP renews them one after the other")
    if settings.database_url and settings.mode != "replay":
        lines.append(f"Database {masked(settings.database_url)}")
    if settings.mode != "live":
        lines.append(f"Mode {settings.mode}, recordings in {settings.recordings}")
    if settings.mode == "replay":  # asks nobody, and knows the recorded hosts
        return "\n".join(lines)
    known = config.hosts(settings)
    named = {name: host for name, host in known.items() if not host.probed}
    for name, host in named.items():
        origin = settings.hosts[name].origin
        lines.append(f"Model host {name}: {masked(host.base_url)} ({origin or 'configured'})")
    probed = [host for host in known.values() if host.probed]
    lines += [f"Looking for {host.name} on {host.base_url}, to serve its models once it answers" for host in probed]
    return "\n".join([*lines, *([] if named else [NO_HOST])])


# ---------------------------------------------------------------- flags


def _add_settings(to: argparse.ArgumentParser) -> None:
    """The settings that are flags as well. None stands for: not given."""
    about = {each.path: each.description for each in config.settings()}
    to.add_argument("--config", type=Path, metavar="FILE", help="configuration, TOML or JSON (ANTIPHON_CONFIG)")
    to.add_argument("--host", help=about["host"])
    to.add_argument("--port", type=int, help=about["port"])
    to.add_argument("--workers", type=int, metavar="N", help=about["workers"])
    to.add_argument("--data", dest="data_dir", metavar="DIR", help=about["data_dir"])
    to.add_argument("--mode", choices=get_args(config.Mode), help=about["mode"])
    to.add_argument("--recordings", metavar="DIR", help=about["recordings"])
    to.add_argument("--recordings-format", choices=("antiphon", "llama-stack"), help=about["recordings_format"])
    to.add_argument("--recordings-match", choices=("strict", "tolerant"), help=about["recordings_match"])
    to.add_argument("--replay-speed", type=float, metavar="FACTOR", help=about["replay_speed"])
    to.add_argument("--strict", action="store_const", const=True, help=about["strict"])
    to.add_argument("--allow-unauthenticated", action="store_const", const=True, help=about["allow_unauthenticated"])
    to.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help=about["log_level"])


def _load(args: argparse.Namespace) -> config.Config:
    flags: dict[str, Any] = {name: getattr(args, name) for name in _FLAGS}
    return config.load(args.config, None, flags)


if __name__ == "__main__":
    sys.exit(main())
