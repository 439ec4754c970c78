"""The example of several processes: its files fit each other, the settings, and what the server promises."""

import re
from pathlib import Path

import pytest
import yaml

from antiphon import config
from antiphon.api.server import ROUTES

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "compose"


@pytest.fixture
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture
def settings(compose, tmp_path):
    """The configuration that a process of it has, with every variable filled in."""
    given = compose["services"]["antiphon"]["environment"]
    environ = {name: re.sub(r"\$\{\w+:[?-]\}", "filled-in", value) for name, value in given.items()}
    return config.load(None, {**environ, "HOME": str(tmp_path)})


def seconds(text):
    """A duration as Compose and HAProxy write it."""
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * (60 if unit == "m" else 1)


def balancer(name):
    """A setting of the balancer's."""
    return re.search(rf"^ *{name} +(\S+)", (FOLDER / "haproxy.cfg").read_text(), re.MULTILINE)[1]


def test_its_variables_are_settings_and_what_must_be_shared_is(settings):
    assert settings.database_url.startswith("postgresql://antiphon:filled-in@postgres:")
    assert settings.secret_key == "filled-in"
    assert settings.blobs_url == "file:///files"


def test_its_files_are_there_and_its_volumes_declared(compose):
    build = compose["services"]["antiphon"]["build"]
    root = (FOLDER / build["context"]).resolve()
    assert (root / "pyproject.toml").is_file()
    assert (root / build["dockerfile"]).is_file()
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", (root / build["dockerfile"]).read_text(), re.MULTILINE):
        assert [name for name in copied.split() if not (root / name).exists()] == []
    volumes = [each for service in compose["services"].values() for each in service.get("volumes", ())]
    for volume in volumes:
        source = volume.split(":")[0]
        assert source in compose["volumes"] or (FOLDER / source).is_file()


def test_nobody_is_killed_before_its_time(compose, settings):
    assert seconds(compose["services"]["antiphon"]["stop_grace_period"]) > settings.timeouts.shutdown_s + 1


def test_the_balancer_is_as_patient_as_the_server_is(settings):
    timeouts = settings.timeouts
    assert seconds(balancer("timeout client")) > 2 * timeouts.keep_alive_s
    assert seconds(balancer("timeout server")) > timeouts.first_byte_s
    assert seconds(balancer("timeout tunnel")) > timeouts.socket_s


def test_the_balancer_asks_a_route_that_exists_and_knows_all_processes(compose):
    text = (FOLDER / "haproxy.cfg").read_text()
    method, path = re.search(r"option httpchk (\S+) (\S+)", text).groups()
    assert (method, path) in {(route.method, route.path) for route in ROUTES}
    replicas = compose["services"]["antiphon"]["deploy"]["replicas"]
    assert f"server-template antiphon- {replicas} antiphon:8321" in text
