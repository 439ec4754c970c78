"""Requests under a key, where a test needs to say what happens when: other processes, kills: tests/api."""

import asyncio

import pytest
from cryptography.exceptions import InvalidTag

from antiphon.api import idempotency
from antiphon.api.idempotency import BodyDigest, Lock, Once
from antiphon.api.route import route
from antiphon.clock import replay_clock
from antiphon.errors import Unavailable
from antiphon.stores.idempotency import Idempotency
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.signals import LocalSignals
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.workers import Workers
from antiphon.wire.models import Health

KEY = {"idempotency-key": "key"}
FORM = b"--b1\r\nhead\r\n\r\nsome --b content\r\n--b1--\r\n"


class Work:
    """A handler that counts, and waits until the test lets it go on."""

    def __init__(self) -> None:
        self.executed = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.error: Exception | None = None

    @property
    def route(self):
        @route("POST", "/work", answer=Health)
        async def work(call):
            self.executed += 1
            self.begun.set()
            await self.go.wait()
            if self.error is not None:
                raise self.error
            return Health()

        return work


class Unreliable:
    """A database that fails those writes that begin as the test says."""

    def __init__(self, database) -> None:
        self.one, self.all, self.transaction = database.one, database.all, database.transaction
        self.failing = ("nothing",)
        self._execute = database.execute

    async def execute(self, sql, params=()):
        if sql.startswith(self.failing):
            raise Unavailable("The disk is full.")
        return await self._execute(sql, params)


@pytest.fixture
async def database():
    opened = open_sqlite(None)
    await migrate(opened, migrations())
    yield Unreliable(opened)
    await opened.close()


@pytest.fixture
async def once(database):
    workers = Workers(database, 60, "here")
    await workers.beat()
    return Once(
        Idempotency(database, workers, replay_clock, kept_s=600), LocalSignals(), b"the server's", bytes_max=1000
    )


async def until(true) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


async def test_those_who_wait_are_woken_by_the_answer(app, once) -> None:
    work = Work()
    running = await app(work.route, once=once)
    asked = [running.begin("POST", "/work", headers=KEY) for _ in range(5)]
    await until(lambda: once._waiting == 4)
    work.go.set()
    async with asyncio.timeout(idempotency.LOOK_S / 2):
        for _, task in asked:
            await task
    assert [talk.status for talk, _ in asked] == [200] * 5
    assert len({talk.body for talk, _ in asked}) == work.executed == 1
    assert once._waiting == 0


async def test_more_than_so_many_do_not_wait(app, once, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "WAITING_MAX", 1)
    work = Work()
    running = await app(work.route, once=once)
    asked = [running.begin("POST", "/work", headers=KEY) for _ in range(2)]
    await until(lambda: once._waiting == 1)
    got = await running.ask("POST", "/work", headers=KEY)
    assert (got.status, got.headers["retry-after"]) == (429, "1")
    work.go.set()
    for talk, task in asked:
        await task
        assert talk.status == 200


async def test_one_who_waits_may_leave_and_the_others_are_served(app, once) -> None:
    work = Work()
    running = await app(work.route, once=once)
    first, leaving = (running.begin("POST", "/work", headers=KEY) for _ in range(2))
    await until(lambda: once._waiting == 1)
    leaving[0].leave()
    await leaving[1]
    assert (once._waiting, leaving[0].sent) == (0, [])
    work.go.set()
    await first[1]
    assert first[0].status == 200


async def test_when_the_execution_fails_one_of_those_who_wait_tries_anew(app, once) -> None:
    work = Work()
    running = await app(work.route, once=once)
    asked = [running.begin("POST", "/work", headers=KEY) for _ in range(3)]
    await until(lambda: once._waiting == 2)
    work.error = Unavailable("Not now.")
    work.go.set()
    for _, task in asked:
        await task
    assert [talk.status for talk, _ in asked] == [503] * 3
    assert work.executed == 3


async def test_an_upload_that_waited_for_one_that_was_given_up_is_to_be_sent_again(app, once) -> None:
    executed = []

    @route("POST", "/upload", form=Health, answer=Health)
    async def upload(call):
        executed.append(b"".join([piece async for piece in call.pieces(1000)]))
        return Health()

    running = await app(upload, once=once)
    head = {**KEY, "content-type": "multipart/form-data; boundary=b1"}
    first, task = running.begin("POST", "/upload", headers=head, pieces=[])  # its body does not come
    second, waiting = running.begin("POST", "/upload", headers=head, pieces=[FORM])
    await until(lambda: once._waiting == 1)
    first.leave()
    await task
    await waiting
    assert (second.status, second.error["code"]) == (409, "idempotency_key_in_use")
    assert (await running.ask("POST", "/upload", headers=head, pieces=[FORM])).status == 200
    assert executed == [FORM]


@pytest.mark.parametrize("failing", [("UPDATE",), ("UPDATE", "DELETE")])
async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(app, once, database, failing) -> None:
    work = Work()
    work.go.set()
    running = await app(work.route, once=once)
    database.failing = failing
    assert (await running.ask("POST", "/work", headers=KEY)).status == 200
    database.failing = ("nothing",)
    again = await running.ask("POST", "/work", headers=KEY)
    assert (again.status, "idempotent-replayed" in again.headers, work.executed) == (200, False, 2)


@pytest.mark.parametrize("size", range(1, len(FORM)))
def test_a_body_has_one_digest_however_it_is_cut_and_whatever_its_boundary(size: int) -> None:
    whole, cut, other = (BodyDigest(b"multipart/form-data; boundary=" + name) for name in (b"b1", b'"b1"', b"c2x"))
    whole.feed(FORM)
    for at in range(0, len(FORM), size):
        cut.feed(FORM[at : at + size])
    other.feed(FORM.replace(b"b1", b"c2x"))
    assert whole.digest() == cut.digest() == other.digest()
    plain = BodyDigest()
    plain.feed(FORM)
    assert plain.digest() != whole.digest()


def test_neither_secret_alone_opens_an_answer() -> None:
    sealed = Lock(b"server", "us", b"client").seal(b"answer")
    assert Lock(b"server", "us", b"client").open(sealed) == b"answer"
    assert b"answer" not in sealed
    for secret, owner, key in ((b"other", "us", b"client"), (b"server", "us", b"other"), (b"server", "o", b"client")):
        other = Lock(secret, owner, key)
        assert other.id != Lock(b"server", "us", b"client").id
        with pytest.raises(InvalidTag):
            other.open(sealed)
