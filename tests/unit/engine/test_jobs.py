"""What runs jobs: failures as words, pauses as numbers."""

import pytest

from antiphon.engine.jobs import performing
from antiphon.errors import Unavailable
from antiphon.stores.jobs import Job, Kind, died_too_often, next_pause, pause_after

JOB = Job(id="job_1", owner="", kind="k", payload={}, attempt=1)
KIND = Kind(perform=performing(lambda _job: None), attempts_max=3, pause_s=2, pause_s_max=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, ""), (Unavailable("The disk is full."), "The disk is full."), (KeyError("x"), "KeyError: x")],
)
async def test_a_failure_is_told_and_not_raised(error: Exception | None, said: str) -> None:
    async def work(job: Job) -> None:
        assert job is JOB
        if error is not None:
            raise error

    assert await performing(work)(JOB) == said


def test_pauses_double_up_to_their_limit_and_vary() -> None:
    assert [pause_after(count, first_s=1, max_s=10, chance=0) for count in (1, 2, 3, 4, 5, 10_000)] == [
        1,
        2,
        4,
        8,
        10,
        10,
    ]
    assert pause_after(3, first_s=1, max_s=10, chance=1) == 2


def test_after_the_last_attempt_there_is_no_pause() -> None:
    assert [next_pause(KIND, attempt, 0) for attempt in (1, 2, 3)] == [2, 4, None]
    assert [next_pause(KIND, 2, chance) for chance in (0, 0.5, 1)] == [4, 3, 2]


def test_an_attempt_after_the_last_is_not_begun() -> None:
    assert died_too_often(KIND, 3) == ""
    assert died_too_often(KIND, 4) == "its worker died in each of 3 attempts"
