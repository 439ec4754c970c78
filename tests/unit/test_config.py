"""Settings: where they come from, and what a wrong one is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from antiphon.config import Config, ConfigError, effective, hosts, load, secret, settings
from antiphon.presets import DEFAULT_QUIRKS, OPENAI_QUIRKS, PRESETS


def problems(file: Path | None = None, environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {}, flags)
    return caught.value.problems


def toml(folder: Path, text: str) -> Path:
    file = folder / "antiphon.toml"
    file.write_text(text)
    return file


# ---------------------------------------------------------------- sources


def test_no_configuration_at_all_is_a_configuration() -> None:
    config = load(None, {"HOME": "/home/ada"})
    assert (config.host, config.port, config.mode) == ("127.0.0.1", 8321, "live")
    assert config.data_dir == "/home/ada/.local/share/antiphon"
    assert list(config.hosts) == ["ollama"]  # looked for, not named


def test_flags_win_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, 'port = 1\nlog_level = "debug"\nstrict = true\n')
    config = load(file, {"ANTIPHON_PORT": "2", "ANTIPHON_LOG_LEVEL": "error"}, {"port": 3, "strict": None})
    assert (config.port, config.log_level, config.strict) == (3, "error", True)


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    assert load(None, {"ANTIPHON_CONFIG": str(toml(tmp_path, "port = 7"))}).port == 7


def test_json_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.json"
    file.write_text(json.dumps({"limits": {"tools_max": 3}}))
    assert load(file, {}).limits.tools_max == 3


def test_nested_settings_are_set_with_two_underscores() -> None:
    environ = {
        "ANTIPHON_LIMITS__TOOLS_MAX": "4",
        "ANTIPHON_HOSTS__FAKE__BASE_URL": "http://127.0.0.1:9/v1",
        "ANTIPHON_HOSTS__FAKE__QUIRKS": '{"developer_role": true}',
        "ANTIPHON_HOSTS__FAKE__QUIRKS__STREAM_USAGE": "false",
        "ANTIPHON_ALIASES": '{"fast": "fake/small"}',
        "ANTIPHON_STRICT": "true",
    }
    config = load(None, environ)
    quirks = hosts(config)["fake"].quirks
    assert (config.limits.tools_max, config.aliases, config.strict) == (4, {"fast": "fake/small"}, True)
    assert (quirks.developer_role, quirks.stream_usage) == (True, False)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting() -> None:
    environ = {
        "ANTIPHON_PORT": "tcp://10.0.0.7:8321",
        "ANTIPHON_PORT_8321_TCP_ADDR": "10.0.0.7",
        "ANTIPHON_SERVICE_HOST": "10.0.0.7",
        "ANTIPHON_SERVICE_PORT_HTTP": "8321",
    }
    assert load(None, environ).port == 8321


def test_a_secret_is_taken_from_the_variable_that_the_file_names(tmp_path: Path) -> None:
    file = toml(tmp_path, '[hosts.mine]\nbase_url = "http://h/v1"\nkey = "env:MY_KEY"\nheaders = {x = "env:MY_KEY"}')
    host = hosts(load(file, {"MY_KEY": "s3cret"}))["mine"]
    assert (host.key, host.headers) == ("s3cret", {"x": "s3cret"})


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "prot: there is no such setting. Did you mean 'port'?"),
        ("[limits]\ntool_max = 1", "limits.tool_max: there is no such setting. Did you mean 'tools_max'?"),
        ('port = "x"', "port: expected int, got 'x'."),
        ("port = 70000", "port: expected int <= 65535, got 70000."),
        ('[hosts.a]\nbase_url = "http://h"\nmodels.m.dimension = "x"', "hosts.a.models.m.dimension: expected int"),
        ("hosts = 3", "hosts: expected a table, got 3."),
        ('mode = "rekord"', "mode: invalid enum value 'rekord'"),
        ('[hosts.a]\npreset = "openia"', "hosts.a.preset: there is no preset 'openia'. Did you mean 'openai'?"),
        ("[hosts.a]", "hosts.a.base_url: is needed"),
        ('[hosts.a]\nbase_url = "ftp://h/v1"', "hosts.a.base_url: expected an address"),
        ('[hosts.a]\nbase_url = "http://h:x/v1"', "hosts.a.base_url: expected an address"),
        ('[hosts.a]\nbase_url = "file://srv/models"', "or file:///folder, got 'file://srv/models'"),
        ('[hosts.a]\nbase_url = "file:///"', "hosts.a.base_url: expected an address"),
        (
            'blobs_url = "http://bucket"',
            "blobs_url: expected file:///folder or s3://bucket/prefix, got 'http://bucket'.",
        ),
        ('blobs_url = "file://folder"', "blobs_url: expected file:///folder"),
        ('blobs_access_key = "a"', "blobs_secret_key: is needed together with blobs_access_key"),
        ('[hosts."a/b"]\nbase_url = "http://h/v1"', "hosts.a/b: a host's name has letters"),
        ('[hosts.a]\nbase_url = "http://h"\nquirks.stream_usge = true', "Did you mean 'stream_usage'?"),
        ('[hosts.a]\nbase_url = "http://h"\nquirks.stream_usage = 3', "hosts.a.quirks.stream_usage: expected bool"),
        ('[hosts.a]\nbase_url = "http://h"\norigin = "x"', "hosts.a.origin: there is no such setting."),
        (
            '[hosts.a]\nbase_url = "http://h"\nkey = "env:NOPE"',
            "hosts.a.key: the environment variable NOPE is not set.",
        ),
        ('default_host = "b"', "default_host: there is no host 'b'."),
        ('[aliases]\na = "b"\nb = "h/m"', "aliases.a: 'b' is an alias itself"),
        ("port = ", "antiphon.toml: "),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_meant(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in problem for problem in problems(toml(tmp_path, text)))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ANTIPHON_PROT", "1", "ANTIPHON_PROT: there is no such setting. Did you mean 'ANTIPHON_PORT'?"),
        ("ANTIPHON_PORT", "x", "ANTIPHON_PORT: expected int, got 'x'."),
        ("ANTIPHON_LIMITS", "{", "ANTIPHON_LIMITS: expected JSON"),
        ("ANTIPHON_PORT__X", "1", "ANTIPHON_PORT__X: there is no such setting."),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, said: str) -> None:
    assert said in problems(None, {name: value})[0]


def test_every_wrong_setting_is_told_at_once(tmp_path: Path) -> None:
    assert len(problems(toml(tmp_path, 'port = "x"\nprot = 1\nstrict = 2'))) == 3


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "No such file" in problems(tmp_path / "nope.toml")[0]


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    assert "12345" not in problems(toml(tmp_path, "secret_key = 12345"))[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_listening_beyond_loopback_must_be_allowed(host: str) -> None:
    assert "allow_unauthenticated" in problems(host=host)[0]
    assert load(None, {}, {"host": host, "allow_unauthenticated": True}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert load(None, {}, {"host": host}).host == host


# ---------------------------------------------------------------- hosts


def test_a_key_in_the_environment_is_a_host() -> None:
    host = hosts(load(None, {"OPENAI_API_KEY": "sk"}))["openai"]
    assert (host.base_url, host.key, host.quirks) == ("https://api.openai.com/v1", "sk", OPENAI_QUIRKS)


def test_another_server_behind_openais_variables_gets_the_quirks_of_an_unknown_one() -> None:
    environ = {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "http://127.0.0.1:9100/v1"}
    host = hosts(load(None, environ))["openai"]
    assert (host.base_url, host.key, host.provider_type) == ("http://127.0.0.1:9100/v1", "sk", "remote::openai")
    assert host.quirks == DEFAULT_QUIRKS
    assert host.provider_data_keys[0] == "openai_api_key"


def test_openais_regional_addresses_are_openai() -> None:
    environ = {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}
    assert hosts(load(None, environ))["openai"].quirks == OPENAI_QUIRKS


@pytest.mark.parametrize(
    ("name", "variable", "value", "url"),
    [
        ("ollama", "OLLAMA_HOST", "0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("ollama", "OLLAMA_HOST", "gpu", "http://gpu:11434/v1"),
        ("ollama", "OLLAMA_HOST", ":8080", "http://127.0.0.1:8080/v1"),
        ("ollama", "OLLAMA_URL", "http://gpu:1/", "http://gpu:1/v1"),
        ("vllm", "VLLM_URL", "http://gpu:8000/v1", "http://gpu:8000/v1"),
        ("vllm", "VLLM_URL", "gpu:8000", "http://gpu:8000/v1"),
        ("llamacpp", "LLAMACPP_URL", "http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("groq", "GROQ_BASE_URL", "https://api.groq.com", "https://api.groq.com/openai/v1"),
        ("azure", "AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/", "https://me.openai.azure.com/openai/v1"),
        ("databricks", "DATABRICKS_HOST", "adb-1.databricks.com", "https://adb-1.databricks.com/serving-endpoints"),
    ],
)
def test_an_address_in_the_environment_is_a_host(name: str, variable: str, value: str, url: str) -> None:
    config = load(None, {variable: value})
    assert (hosts(config)[name].base_url, hosts(config)[name].probed) == (url, False)
    assert config.hosts[name].origin == variable


@pytest.mark.parametrize("preset", [p for p in PRESETS.values() if p.key_envs and p.base_url], ids=lambda p: p.name)
def test_every_host_with_an_address_is_found_by_its_key(preset: Any) -> None:
    for variable in preset.key_envs:
        host = hosts(load(None, {variable: "k"}))[preset.name]
        assert (host.base_url, host.key, host.quirks) == (preset.base_url, "k", preset.quirks)


def test_hosts_are_found_only_if_wanted() -> None:
    assert load(None, {"OPENAI_API_KEY": "sk", "ANTIPHON_FIND_HOSTS": "false"}).hosts == {}


def test_a_configured_host_takes_its_key_from_the_environment(tmp_path: Path) -> None:
    config = load(toml(tmp_path, "[hosts.groq]\nidle_s = 5"), {"GROQ_API_KEY": "k"})
    assert (hosts(config)["groq"].key, hosts(config)["groq"].timeouts.idle_s) == ("k", 5)


def test_a_key_from_the_environment_never_goes_to_an_address_from_the_file(tmp_path: Path) -> None:
    config = load(toml(tmp_path, '[hosts.openai]\nbase_url = "http://elsewhere/v1"'), {"OPENAI_API_KEY": "sk"})
    assert hosts(config)["openai"].key == ""


def test_quirks_of_a_host_override_its_preset(tmp_path: Path) -> None:
    file = toml(tmp_path, '[hosts.mine]\npreset = "openai"\nquirks = {developer_role = false, accepts = ["user"]}')
    quirks = hosts(load(file, {}))["mine"].quirks
    assert (quirks.developer_role, quirks.accepts, quirks.files) == (False, frozenset({"user"}), True)


def test_a_replaying_server_may_have_a_default_host_that_only_its_recordings_know() -> None:
    assert load(None, {}, {"mode": "replay", "default_host": "recorded"}).default_host == "recorded"


@pytest.mark.parametrize(
    "url",
    ["postgresql://me@db/x", "postgres://me:pass@db:5432/x", "postgresql:///x?host=/run", "postgresql://a:1,b:2/x"],
)
def test_a_postgresql_can_hold_the_state(url: str) -> None:
    assert load(None, {}, {"database_url": url}).database_url == url


@pytest.mark.parametrize("url", ["db/x", "mysql://me:topsecret@db/x", "postgresql://me:topsecret@db:port/x"])
def test_another_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url: expected postgresql://") as error:
        load(None, {}, {"database_url": url})
    assert "topsecret" not in str(error.value)


# ---------------------------------------------------------------- showing and keeping


def test_secrets_are_masked_when_shown(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        'secret_key = "topsecret"\ndatabase_url = "postgresql://u:topsecret@topsecret@h/x?password=topsecret"\n'
        'blobs_access_key = "topsecret"\nblobs_secret_key = "topsecret"\n'
        '[hosts.a]\nbase_url = "http://u:topsecret@h/v1"\nkey = "topsecret"\n'
        'headers = {x-token = "topsecret"}',
    )
    config = load(file, {"OPENAI_API_KEY": "topsecret"})
    shown = json.dumps(effective(config))
    assert "topsecret" not in shown
    assert "x-token" in shown
    assert effective(config)["hosts"]["openai"]["key"] == "********"


def test_every_setting_is_described() -> None:
    found = settings()
    assert all(each.description.endswith((".", "`")) for each in found), [e.path for e in found if not e.description]
    by_path = {each.path: each for each in found}
    assert by_path["hosts.*.key"].secret
    assert by_path["limits.tools_max"].variable == "ANTIPHON_LIMITS__TOOLS_MAX"
    assert by_path["port"].default == Config().port


def test_the_secret_key_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    config = load(None, {}, {"data_dir": str(tmp_path / "deep" / "data")})
    first = secret(config)
    assert len(first) == 32
    assert secret(config) == first
    assert (tmp_path / "deep" / "data" / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_given_secret_key_is_used_and_a_replaying_server_repeats_itself(tmp_path: Path) -> None:
    assert secret(load(None, {"ANTIPHON_SECRET_KEY": "mine"})) == b"mine"
    replaying = load(None, {}, {"mode": "replay", "data_dir": str(tmp_path)})
    assert secret(replaying) == secret(load(None, {}, {"mode": "replay", "data_dir": "/elsewhere"}))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_a_host_whose_models_run_here(tmp_path: Path) -> None:
    text = (
        '[hosts.near]\nbase_url = "file:///srv/models"\nlocal = { threads = 3 }\n[hosts.far]\nbase_url = "http://h/v1"'
    )
    found = hosts(load(toml(tmp_path, text), {}))
    assert (found["near"].dialect, found["far"].dialect) == ("local", "chat_completions")
    assert (found["near"].provider_type, found["near"].local.threads) == ("inline::sentence-transformers", 3)


def test_processors_are_shared_by_the_processes() -> None:
    environ = {"ANTIPHON_HOSTS__NEAR__BASE_URL": "file:///srv/models"}
    alone, together = (hosts(load(None, environ, {"workers": workers}))["near"].local.threads for workers in (1, 256))
    assert (alone >= 1, together) == (True, 1)
