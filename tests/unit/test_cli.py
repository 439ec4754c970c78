"""The command line, as a person uses it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon import __version__, cli, config
from antiphon.stores.migrate import migrations
from antiphon.testing.host import Host

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command with these environment variables only: exit code, standard output, standard error."""

    def command(*argv: str, **environ: str) -> tuple[int, str, str]:
        for name in os.environ:
            if name not in ("PATH", "HOME"):
                monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code = cli.main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return command


def unused() -> str:
    """An address where nothing listens."""
    return "http://127.0.0.1:9/v1"


def test_version_prints_the_version(run: Run) -> None:
    assert run("version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("argv", [[], ["sing"], ["serve", "--mode", "guess"], ["serve", "--port", "x"]])
def test_a_wrong_command_is_refused_with_a_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: antiphon" in capsys.readouterr().err


def test_check_shows_the_configuration_without_secrets_and_reaches_each_host(run: Run, host: Host) -> None:
    code, out, _ = run("check", "--port", "7", OPENAI_BASE_URL=host.url, OPENAI_API_KEY="topsecret")
    assert code == 0
    assert "topsecret" not in out
    shown, end = json.JSONDecoder().raw_decode(out)
    assert (shown["port"], shown["hosts"]["openai"]["key"]) == (7, "********")
    assert f"OK        openai: {host.url}, " in out[end:]
    assert host.requests[-1].headers["authorization"] == "Bearer topsecret"


def test_check_fails_when_a_host_is_down(run: Run, host: Host) -> None:
    code, out, _ = run("check", OPENAI_BASE_URL=host.url, OPENAI_API_KEY="k", VLLM_URL=unused())
    assert code == 1
    assert "OK        openai" in out
    assert "ERROR     vllm: http://127.0.0.1:9/v1: Model host vllm (127.0.0.1:9) cannot be reached" in out


def test_check_needs_no_host_and_says_how_to_add_one(run: Run) -> None:
    code, out, _ = run("check", ANTIPHON_FIND_HOSTS="false")
    assert code == 0
    assert out.endswith(f"{cli.NO_HOST}\n")


def test_check_of_a_wrong_configuration_names_every_problem(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text("prot = 1\n[hosts.a]\n")
    code, out, err = run("check", "--config", str(file), "--host", "0.0.0.0")
    assert (code, out) == (1, "")
    assert "antiphon: prot: there is no such setting. Did you mean 'port'?" in err


def test_check_offline_asks_nobody(run: Run, host: Host) -> None:
    code, out, _ = run("check", "--offline", OPENAI_BASE_URL=host.url, OPENAI_API_KEY="k")
    assert (code, json.loads(out)["hosts"]["openai"]["origin"]) == (0, "OPENAI_BASE_URL")
    assert host.requests == []


def test_a_dialect_that_is_not_installed_is_told(run: Run) -> None:
    environ = {"ANTIPHON_HOSTS__A__DIALECT": "smoke", "ANTIPHON_HOSTS__A__BASE_URL": unused()}
    code, _, err = run("models", **environ)
    assert code == 1
    assert "No provider named 'smoke' is installed" in err


def test_models_lists_what_requests_can_name(run: Run, host: Host) -> None:
    environ = {"OPENAI_BASE_URL": host.url, "OPENAI_API_KEY": "k", "ANTIPHON_FIND_HOSTS": "true"}
    code, out, _ = run("models", **environ)
    assert code == 0
    assert out.splitlines()[0].startswith("openai/")
    code, out, _ = run("models", "--json", **environ)
    assert json.loads(out)["data"][0]["object"] == "model"


def test_models_of_a_host_that_is_down_is_a_failure(run: Run) -> None:
    code, out, err = run("models", VLLM_URL=unused(), OLLAMA_HOST=unused())
    assert (code, out) == (1, "")
    assert "antiphon: vllm: Model host vllm (127.0.0.1:9) cannot be reached" in err


def test_recordings_has_commands_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["recordings", "--help"])
    assert caught.value.code == 0
    assert "verify" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "value", "path"),
    [
        ("--host", "127.0.0.2", "host"),
        ("--port", "5", "port"),
        ("--data", "/d", "data_dir"),
        ("--mode", "record", "mode"),
        ("--recordings", "/r", "recordings"),
        ("--recordings-format", "llama-stack", "recordings_format"),
        ("--recordings-match", "tolerant", "recordings_match"),
        ("--replay-speed", "2.5", "replay_speed"),
        ("--log-level", "error", "log_level"),
        ("--strict", None, "strict"),
        ("--allow-unauthenticated", None, "allow_unauthenticated"),
    ],
)
def test_a_flag_is_a_setting(run: Run, flag: str, value: str | None, path: str) -> None:
    _, out, _ = run("check", "--offline", flag, *([value] if value else []))
    assert str(json.loads(out)[path]) == (value or "True")


def test_the_server_says_where_it_is_and_what_it_found() -> None:
    said = cli.greeting(config.load(None, {"GROQ_API_KEY": "topsecret", "ANTIPHON_DATA_DIR": "/d"}))
    assert f"Antiphon {__version__}: http://127.0.0.1:8321/v1, data in /d" in said
    assert "Model host groq: https://api.groq.com/openai/v1 (GROQ_API_KEY)" in said
    assert "Looking for ollama on http://127.0.0.1:11434/v1" in said
    assert "topsecret" not in said
    assert cli.NO_HOST not in said


def test_a_replaying_server_looks_for_no_host() -> None:
    said = cli.greeting(config.load(None, {"ANTIPHON_DATA_DIR": "/d"}, {"mode": "replay", "recordings": "/r"}))
    assert said.endswith("Mode replay, recordings in /r")


def test_models_without_any_host_says_how_to_add_one(run: Run) -> None:
    assert run("models", ANTIPHON_FIND_HOSTS="false") == (0, "", f"{cli.NO_HOST}\n")


def test_a_password_in_an_address_is_shown_nowhere(run: Run) -> None:
    environ = {"VLLM_URL": "http://me:topsecret@127.0.0.1:9/v1", "ANTIPHON_HOST": "[::1]"}
    said = cli.greeting(config.load(None, environ))
    assert "http://[::1]:8321/v1" in said
    _, out, err = run("check", **environ)
    assert "vllm: http://********@127.0.0.1:9/v1" in out
    assert "topsecret" not in said + out + err


def test_a_server_without_hosts_says_how_to_add_one() -> None:
    said = cli.greeting(config.load(None, {}, {"mode": "record", "host": "::1"}))
    assert said.endswith(cli.NO_HOST)
    assert "http://[::1]:8321/v1" in said
    assert "Mode record" in said


# ---------------------------------------------------------------- the database


def test_migrate_says_what_it_applied_and_has_nothing_to_do_a_second_time(run: Run, tmp_path: Path) -> None:
    code, out, err = run("migrate", "--data", str(tmp_path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [step.name for step in migrations()]
    assert run("migrate", "--data", str(tmp_path)) == (0, "Nothing to do: the database is up to date.\n", "")


def test_migrate_and_check_know_a_postgresql(run: Run, postgres_url: str) -> None:
    url = postgres_url.replace("postgres:@", "postgres:topsecret@")
    environ = {"ANTIPHON_FIND_HOSTS": "false", "ANTIPHON_DATABASE_URL": url}
    before = run("check", **environ)
    assert run("migrate", **environ)[:2] == (0, "".join(f"{step.name}\n" for step in migrations("postgres")))
    after = run("check", **environ)
    assert f"lacks {len(migrations())} of {len(migrations())} migrations" in before[1]
    assert "OK        database: postgresql://********@/test" in after[1]
    assert "schema is up to date" in after[1]
    assert "topsecret" not in str((before, after))


def test_a_database_that_is_away_is_a_failure_that_shows_no_password(run: Run) -> None:
    environ = {"ANTIPHON_FIND_HOSTS": "false", "ANTIPHON_DATABASE_URL": "postgresql://me:topsecret@127.0.0.1:9/x"}
    migrated, checked = run("migrate", **environ), run("check", **environ)
    assert migrated == (1, "", "antiphon: The database is not available: it cannot be reached.\n")
    assert checked[0] == 1
    assert "ERROR     database: postgresql://********@127.0.0.1:9/x" in checked[1]
    assert "topsecret" not in str(checked)


def test_the_server_says_which_database_it_has() -> None:
    said = cli.greeting(config.load(None, {}, {"database_url": "postgresql://me:topsecret@db/x"}))
    assert "Database postgresql://********@db/x" in said
    assert "topsecret" not in said
