"""An S3 server of one's own: moto's, in a process beside the tests, with one bucket."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "antiphon"
START_S = 20.0


@contextmanager
def s3_server() -> Iterator[str]:
    """A running server; gives the `blobs_url` of its bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while ask("PUT", port, f"/{BUCKET}") != 200:
            assert time.monotonic() < deadline, "the S3 server did not start"
            time.sleep(0.02)
        yield f"s3://{BUCKET}/some/folder?endpoint=http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def ask(method: str, port: int, path: str) -> int:
    """The status of an answer; 0 without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers={"authorization": "AWS4-HMAC-SHA256 Credential=a/2026/us-east-1/s3"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
