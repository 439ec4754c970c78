"""Fetching what a client's URL names: from a real server on loopback, which only some of these guards allow."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from antiphon.egress import LiveTransport
from antiphon.errors import InvalidRequest, ReplayMiss
from antiphon.fetch import Fetched, Fetcher
from antiphon.guard import Guard
from antiphon.limits import FetchConfig
from antiphon.replay.transport import ReplayOptions, open_transport

HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: Text/Plain; charset=utf-8\r\ncontent-length: 5\r\n\r\nhello"


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode("latin-1")


class Site:
    """A server that answers each path with the bytes it was given, and notes what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def url(self, path: str = "/", host: str = "files.example") -> str:
        return f"http://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        self.asked.append((path, dict(line.lower().split(": ", 1) for line in head[1:] if line)))
        answer = self.answers.get(path, HELLO)
        if answer:
            writer.write(answer)
            await writer.drain()
        else:
            await reader.read()  # says nothing until the client gives up
        writer.close()


class Names:
    """A resolver whose answers are scripted, one after the other; the last one holds."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers) or [["127.0.0.1"]]
        self.asked: list[str] = []

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    started = Site()
    await started.start()
    yield started
    await started.close()


async def fetched(url: str, names: Names | None = None, **config: object) -> Fetched:
    """What a fetcher gets that takes 127.0.0.1 for a public address."""
    settings = {"allowed_networks": ("127.0.0.1/32",), "ports": (), **config}
    guard = Guard(FetchConfig(**settings))  # type: ignore[arg-type]
    live = LiveTransport(guard=guard, look_up=(names or Names()).look_up, pause=lambda _: asyncio.sleep(0))
    try:
        return await Fetcher(live, guard).get(url, param="input")
    finally:
        await live.close()


async def refusal(url: str, names: Names | None = None, **config: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await fetched(url, names, **config)
    assert caught.value.param == "input"
    return caught.value


async def test_content_comes_with_its_type_and_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    found = await fetched(site.url("/a/b%20c.txt?d=e"))
    assert found == Fetched(content=b"hello", content_type="text/plain", name="b c.txt")
    ((path, head),) = site.asked
    assert (path, head["host"]) == ("/a/b%20c.txt?d=e", f"files.example:{site.port}")
    assert {"cookie", "authorization", "referer"} & head.keys() == set()


async def test_redirects_are_followed_so_many_times_and_no_more(site: Site) -> None:
    for number in range(6):
        site.answers[f"/{number}"] = redirect(f"/{number + 1}", (301, 302, 303, 307, 308, 302)[number])
    assert (await fetched(site.url("/1"))).content == b"hello"
    error = await refusal(site.url("/0"))
    assert (error.code, "more than 5 times" in error.message) == ("url_not_fetched", True)


async def test_a_name_that_means_this_machine_reaches_nobody(site: Site) -> None:
    for names in (Names(["127.0.0.1"]), Names(["::1"]), Names(["::ffff:127.0.0.1"]), Names(["8.8.8.8", "127.0.0.1"])):
        error = await refusal(site.url(), names, allowed_networks=())
        assert error.code == "url_not_allowed"
        assert "127.0.0.1" not in error.message
    assert site.asked == []


async def test_a_name_that_means_something_else_the_second_time_is_looked_up_once(site: Site) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    assert (await fetched(site.url(), names)).content == b"hello"
    assert names.asked == ["files.example"]


async def test_a_name_that_turns_inward_at_a_redirect_reaches_nobody(site: Site) -> None:
    site.answers["/"] = redirect("/secret")
    error = await refusal(site.url(), Names(["127.0.0.1"], ["127.0.0.2"]))
    assert error.code == "url_not_allowed"
    assert [path for path, _ in site.asked] == ["/"]


@pytest.mark.parametrize(
    "location",
    [
        *(
            "http://127.0.0.2/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.2]/",
            "http://169.254.169.254/latest/meta-data",
        ),
        *("http://2130706433/", "http://0x7f.1/", "//127.0.0.2/", "http://user@127.0.0.1/", "\\\\127.0.0.1\\x"),
        *("file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "http://0.0.0.0/", "http://[fd00:ec2::254]/"),
    ],
)
async def test_a_redirect_to_where_nobody_may_go_is_not_followed(site: Site, location: str) -> None:
    site.answers["/"] = redirect(location)
    names = Names()
    assert (await refusal(site.url(), names)).code in ("url_not_allowed", "invalid_url")
    assert (len(site.asked), names.asked) == (1, ["files.example"])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 206 Partial\r\ncontent-length: 1\r\n\r\na", "status 206"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101, "larger than the 100 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n", "larger than the 100 bytes"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 101, "larger than the 100 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nxx", "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"0" * 10**6), "compressed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
        (b"", "longer than 0.2 s"),
    ],
)
async def test_what_is_no_content_within_the_limits_is_said(site: Site, answer: bytes, said: str) -> None:
    site.answers["/"] = answer
    time_s = 30.0 if answer else 0.2
    error = await refusal(site.url(), bytes_max=100, time_s=time_s)
    assert error.code == "url_not_fetched"
    assert said in error.message


async def test_content_of_just_the_size_that_is_allowed_is_taken(site: Site) -> None:
    assert (await fetched(site.url(), bytes_max=5)).content == b"hello"
    site.answers["/"] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert (await fetched(site.url(), bytes_max=5)).content == b"hello"


async def test_a_name_without_addresses_is_said(site: Site) -> None:
    class Nowhere(Names):
        async def look_up(self, host: str, port: int) -> Sequence[str]:
            raise OSError(-2, "Name or service not known")

    error = await refusal(site.url(), Nowhere())
    assert (error.code, "cannot be reached" in error.message) == ("url_not_fetched", True)
    assert (await refusal(site.url(), Names(["fe80::1%eth0"]))).code == "url_not_fetched"


async def test_what_was_fetched_is_replayed_without_a_network(site: Site, tmp_path: Path) -> None:
    site.answers["/"] = redirect("/picture")
    site.answers["/picture"] = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 4\r\n\r\n\x89PNG"
    guard = Guard(FetchConfig(allowed_networks=("127.0.0.1/32",), ports=()))
    found = []
    for mode in ("record", "replay"):
        live = LiveTransport(guard=guard, look_up=Names().look_up)
        transport = open_transport(ReplayOptions(mode=mode, directory=tmp_path), live)  # type: ignore[arg-type]
        found.append(await Fetcher(transport, guard).get(site.url()))
        if mode == "replay":
            with pytest.raises(ReplayMiss):
                await Fetcher(transport, guard).get(site.url("/other"))
        await transport.close()
    assert found[0] == found[1] == Fetched(content=b"\x89PNG", content_type="image/png", name="")
    assert len(site.asked) == 2
