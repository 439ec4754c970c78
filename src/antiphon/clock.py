"""The time, as something that can be replaced: in replay it stands still, so that answers are byte-identical."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns Unix seconds."""

REPLAY_EPOCH_S = 1_735_689_600.0
"""The moment at which a replaying server lives: 2025-01-01T00:00:00Z."""


def system_clock() -> float:
    """Unix seconds from the machine's clock."""
    return time.time()


def replay_clock() -> float:
    """Always `REPLAY_EPOCH_S`."""
    return REPLAY_EPOCH_S
