"""How late a follower on one process sees what a model says to a stream of another: p50 and p99, in milliseconds.

    python bench/followers.py [--streams 8] [--database-url postgresql://...]

The model host writes the moment into each chunk when it sends it; the own client's delay stands beside the follower's,
since both pay for the way through the host's connection, the journal and this machine.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from antiphon.testing.server import Server, running

CHUNKS = 100
PAUSE_S = 0.02
_STAMP = re.compile(rb'"delta":"(\d+) "')


async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET"):
        body = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n")
        await asyncio.sleep(0.5)  # until the follower is there
        for number in range(CHUNKS):
            delta = {"content": f"{time.monotonic_ns()} "}
            finish = "stop" if number == CHUNKS - 1 else None
            chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            writer.write(b"data: %b\n\n" % json.dumps(chunk).encode())
            await writer.drain()
            await asyncio.sleep(PAUSE_S)
        writer.write(b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()


async def read(answer: aiohttp.ClientResponse, delays_ms: list[float], followed: asyncio.Future[str] | None) -> None:
    async for line in answer.content:
        if followed is not None and not followed.done() and b'"resp_' in line:
            followed.set_result(line.partition(b'"id":"')[2].partition(b'"')[0].decode())
        if (found := _STAMP.search(line)) is not None:
            delays_ms.append((time.monotonic_ns() - int(found[1])) / 1e6)


async def one(client: aiohttp.ClientSession, here: Server, there: Server, own: list[float], far: list[float]) -> None:
    followed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def follow() -> None:
        id = await followed
        async with client.get(f"{there.url}/responses/{id}?stream=true") as answer:
            await read(answer, far, None)

    async def ask() -> None:
        body = {"model": "h/m", "input": "Hi", "stream": True}
        async with client.post(f"{here.url}/responses", json=body) as answer:
            await read(answer, own, followed)

    await asyncio.gather(ask(), follow())


async def measure(here: Server, there: Server, streams: int) -> None:
    own: list[float] = []
    far: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        await asyncio.gather(*(one(client, here, there, own, far) for _ in range(streams)))
    for name, delays in (("own client", own), ("follower elsewhere", far)):
        cuts = statistics.quantiles(delays, n=100)
        print(f"{name:20} p50 {cuts[49]:6.1f}  p90 {cuts[89]:6.1f}  p99 {cuts[98]:6.1f} ms  ({len(delays)} events)")


def cpu_s(server: Server) -> float:
    assert server.process is not None
    ticks = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


async def run(streams: int, database_url: str) -> None:
    server = await asyncio.start_server(host, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    hosts = {"h": {"base_url": f"http://127.0.0.1:{port}/v1", "preset": "custom"}}
    settings = {"hosts": hosts, "database_url": database_url}
    with tempfile.TemporaryDirectory() as folder:
        opened = [running(settings, Path(folder), process=True) for _ in range(2)]
        here, there = [await asyncio.to_thread(each.__enter__) for each in opened]
        try:
            await measure(here, there, streams)
            print(f"CPU of both processes: {cpu_s(here):.2f} and {cpu_s(there):.2f} s")
        finally:
            for each in opened:
                await asyncio.to_thread(each.__exit__, None, None, None)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--database-url", default="")
    args = parser.parse_args()
    asyncio.run(run(args.streams, args.database_url))
