"""Who asks. Every stored thing belongs to an owner; without authentication there is one, and its name is empty."""

from msgspec import Struct


class Principal(Struct, frozen=True):
    """The caller as stores see it: `owner` scopes every read and write."""

    owner: str = ""


ANYONE = Principal()
"""The caller where nobody has to log in."""
