"""Signals within a process, between processes of a PostgreSQL, and between processes of one SQLite file."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import signals_suite
from antiphon.stores.pg_signals import PAYLOAD_BYTES_MAX, PostgresSignals, payloads
from antiphon.stores.polled_signals import LOOK_S, PolledSignals
from antiphon.stores.signals import LocalSignals, Waiting
from antiphon.stores.sqlite import Sqlite
from postgres_server import PostgresServer
from signals_suite import PATIENCE_S, Pair


async def nothing() -> None:
    """What a commit is where signals need none."""


@asynccontextmanager
async def local() -> AsyncIterator[Pair]:
    signals = LocalSignals()
    yield Pair(signals, signals, nothing)


@asynccontextmanager
async def polled(folder: Path) -> AsyncIterator[Pair]:
    near, far = (Sqlite(folder / "antiphon.db", "normal") for _ in range(2))
    await far.execute("CREATE TABLE numbers (n INTEGER)")
    pair = Pair(
        PolledSignals(near.foreign_commits),
        PolledSignals(far.foreign_commits),
        lambda: far.execute("INSERT INTO numbers VALUES (1)"),
    )
    pair.near.watch(others=True)
    yield pair
    await pair.near.close()
    await near.close()
    await far.close()


@asynccontextmanager
async def on_postgres(url: str) -> AsyncIterator[Pair]:
    pair = Pair(PostgresSignals(url), PostgresSignals(url), nothing)
    await asyncio.gather(connected(pair.near), connected(pair.far))
    yield pair
    await pair.near.close()
    await pair.far.close()


async def connected(signals: PostgresSignals) -> None:
    """Waits for what a new connection does: it wakes everybody."""
    with Waiting(signals, "connected") as changed:
        assert await changed.wait(PATIENCE_S)


@pytest.fixture(params=["local", "polled", "postgres"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """Signals of two processes."""
    if request.param == "local":
        opened = local()
    elif request.param == "polled":
        opened = polled(tmp_path)
    else:
        opened = on_postgres(request.getfixturevalue("postgres_url"))
    async with opened as both:
        yield both


@pytest.mark.parametrize("case", signals_suite.CASES, ids=lambda case: case.__name__)
async def test_signals(case: signals_suite.Case, pair: Pair) -> None:
    """Each case of the suite says its own behaviour."""
    await case(pair)


# ---------------------------------------------------------------- PostgreSQL


async def test_a_lost_connection_is_replaced_and_everybody_woken(postgres: PostgresServer, postgres_url: str) -> None:
    async with on_postgres(postgres_url) as pair:
        with Waiting(pair.near, "whatever") as changed:
            postgres.cut(postgres_url)
            assert await changed.wait(PATIENCE_S)
        await signals_suite.a_signal_wakes_who_listens_in_another_process(pair)


async def test_a_server_that_comes_back_is_listened_to_again(own_postgres: PostgresServer) -> None:
    async with on_postgres(own_postgres.url) as pair:
        own_postgres.stop()
        with Waiting(pair.near, "topic") as changed:
            pair.far.send("topic")
            assert not await changed.wait(0.001)
            own_postgres.start()
            assert await changed.wait(PATIENCE_S)
        await signals_suite.a_signal_wakes_who_listens_in_another_process(pair)


async def test_what_is_sent_before_there_is_a_connection_arrives(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as pair:
        with Waiting(pair.near, "early") as changed:
            late = PostgresSignals(postgres_url)
            late.send("early")
            assert await changed.wait(PATIENCE_S)
            await late.close()


async def test_signals_to_far_away_are_not_heard_a_second_time(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as pair:
        heard: list[str] = []
        stop = pair.near.listen("mine", lambda: heard.append("mine"))
        with Waiting(pair.far, "mine") as changed, Waiting(pair.near, "back") as returned:
            pair.near.send("mine")
            assert await changed.wait(PATIENCE_S)
            pair.far.send("back")  # comes after what the server sent back, if it did
            assert await returned.wait(PATIENCE_S)
        assert heard == ["mine"]
        stop()


async def test_a_signal_for_near_only_stays_there(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as pair:
        with Waiting(pair.far, "near") as changed, Waiting(pair.far, "far") as other:
            pair.near.send("near", far=False)
            pair.near.send("far")
            assert await other.wait(PATIENCE_S)
            assert not await changed.wait(0.001)


async def test_closing_sends_what_is_unsent(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as pair:
        with Waiting(pair.far, "last words") as changed:
            pair.near.send("last words")
            await pair.near.close()
            assert await changed.wait(PATIENCE_S)


async def test_signals_without_a_server_never_raise_and_close() -> None:
    signals = PostgresSignals("postgresql://me:topsecret@127.0.0.1:9/nowhere")
    with Waiting(signals, "topic") as changed:
        signals.send("topic")
        assert await changed.wait(PATIENCE_S)
    await signals.close()


def test_topics_are_cut_into_payloads_that_fit() -> None:
    topics = [f"{n:05}" for n in range(5000)]
    cut_up = list(payloads(topics))
    assert "\n".join(cut_up).split("\n") == topics
    assert max(len(each) for each in cut_up) <= PAYLOAD_BYTES_MAX
    assert list(payloads(["x" * 100] * 2000)) == [""]
    assert list(payloads(["a", "b"])) == ["a\nb"]


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    from postgres_server import postgres_server

    with postgres_server() as server:
        yield server


# ---------------------------------------------------------------- SQLite


async def test_nobody_looks_while_nobody_listens_and_seldom_while_nobody_else_is_known() -> None:
    looks: list[int] = []
    signals = PolledSignals(lambda: looks.append(1) or 0)
    signals.watch(others=True)
    assert (signals._looking, looks) == (None, [])
    signals.watch(others=False)
    with Waiting(signals, "topic") as changed:
        assert not await changed.wait(3 * LOOK_S)
        assert looks == [1]
        signals.watch(others=True)
        assert (await changed.wait(PATIENCE_S), len(looks)) == (True, 2)  # others may have done something before
        assert not await changed.wait(3 * LOOK_S)
        assert len(looks) > 2
    looks.clear()
    signals._look()  # the last one finds that nobody listens
    assert (signals._looking, looks) == (None, [])
    await signals.close()


async def test_a_process_that_nobody_knew_of_is_heard_by_its_first_commit(tmp_path: Path) -> None:
    near, far = (Sqlite(tmp_path / "antiphon.db", "normal") for _ in range(2))
    signals = PolledSignals(near.foreign_commits)
    with Waiting(signals, "topic") as changed:
        await far.execute("CREATE TABLE numbers (n INTEGER)")
        assert await changed.wait(PATIENCE_S)
        assert signals._watching
    await signals.close()
    await near.close()
    await far.close()


async def test_own_commits_wake_nobody(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "antiphon.db", "normal")
    signals = PolledSignals(database.foreign_commits)
    signals.watch(others=True)
    with Waiting(signals, "topic") as changed:
        await database.execute("CREATE TABLE numbers (n INTEGER)")
        assert not await changed.wait(3 * LOOK_S)
    await signals.close()
    await database.close()
    assert database.foreign_commits() >= 0
