"""Tools are tried in the loop: with the engine's bench."""

from tests.unit.engine.conftest import bench

__all__ = ["bench"]
