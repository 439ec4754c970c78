"""Antiphon: OpenAI's API over any model, with state, tools, and replayable model traffic."""

__version__ = "0.1.0"
