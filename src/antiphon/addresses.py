"""What an address in a setting may be. Pure: nothing is looked up."""

import ipaddress
from urllib.parse import urlsplit


def is_address(url: str) -> bool:
    """Whether it is the address of a web server."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "file":
            return not parts.netloc and len(parts.path) > 1
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket without its other half
        return False


def is_database(url: str) -> bool:
    """Whether it can be one; what is asked for in its query, the database judges."""
    try:
        parts = urlsplit(url)
        # Several hosts, each with a port, are libpq's own way to write them.
        port = None if "," in parts.netloc else parts.port
    except ValueError:
        return False
    return parts.scheme in ("postgresql", "postgres") and port != 0


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
