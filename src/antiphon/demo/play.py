"""The stage: a server on the recording that ships with the package, an MCP server beside it, and the scenes on both."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from antiphon.demo.scenes import CONNECTOR, run, title

RECORDINGS: Final = Path(__file__).parents[1] / "recordings"
START_S: Final = 20
NEEDS: Final = {"openai": "OpenAI's client drives the server", "mcp": "a tool of an MCP server is called"}


def main(needs: Mapping[str, str] = NEEDS) -> int:
    """Starts the servers, plays the scenes, stops the servers. Without the packages that it `needs`, says why."""
    if missing := [name for name in needs if find_spec(name) is None]:
        why = "; ".join(needs[name] for name in missing)
        print(f"Missing for the demo: {' and '.join(missing)} ({why}): pip install 'antiphon[demo]'", file=sys.stderr)
        return 1
    with tide_gauge() as gauge:
        recorded = ("--mode", "replay", "--recordings", str(RECORDINGS), "--replay-speed", "1")
        with serving({"connectors": connectors(gauge)}, *recorded) as root:
            print(f"Antiphon runs at {root}/v1, on a recorded model: no network, no key.", flush=True)
            print(f"An MCP server, which is not recorded, runs at {gauge}.", flush=True)
            run(f"{root}/v1")
    epilogue()
    return 0


def epilogue() -> None:
    """What to do next."""
    title("Now with a real model")
    print(
        "  OPENAI_API_KEY=sk-... antiphon serve                  # OpenAI's models, as openai/NAME\n"
        "  antiphon serve                                        # finds a local Ollama by itself\n"
        "  OPENAI_BASE_URL=http://host:8000/v1 antiphon serve    # any server that speaks chat completions\n\n"
        "  then point any OpenAI client at http://127.0.0.1:8321/v1"
    )


def connectors(gauge: str) -> dict[str, Any]:
    """The setting by which clients use the MCP server at this address, and know neither it nor its port."""
    return {CONNECTOR: {"url": gauge, "description": "The tide gauge of the harbour"}}


@contextmanager
def tide_gauge() -> Iterator[str]:
    """The MCP server; yields its address."""
    port = _free_port()
    with _process("antiphon.demo.tide_gauge", str(port)) as process:
        url = f"http://127.0.0.1:{port}/mcp"
        _wait_for(url, process)
        yield url


@contextmanager
def serving(settings: Mapping[str, Any], *flags: str) -> Iterator[str]:
    """A server of its own on a free port, with a data folder of its own; yields its address.

    What must hold whatever stands in the environment is a flag.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "antiphon.json"
        file.write_text(json.dumps(settings))
        place = ("--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--data", f"{folder}/data")
        with _process("antiphon.cli", "serve", *place, "--log-level", "error", *flags) as process:
            root = f"http://127.0.0.1:{port}"
            _wait_for(f"{root}/health", process)
            yield root


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _process(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A module as a process, until it is not wanted any more."""
    process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL)  # noqa: S603 (our own)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Returns when the process answers. Raises `RuntimeError` if it ends, or takes too long."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server at {url} ended at once, with code {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 (our own server)
        except urllib.error.HTTPError:
            return  # it does not like the question, but is there
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the server at {url} did not start within {START_S} s")
