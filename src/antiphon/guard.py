"""Where a URL that a client gave may lead. Pure: what is resolved and connected to, `egress` asks here about.

Programs disagree about what a URL means, and attacks live on that. So a URL is taken apart once, by a grammar that has
no two readings, and put together anew: what `egress` is given has one scheme, one host in lower-case ASCII, one port.
What no honest client writes (credentials, backslashes, numbers that some resolvers take for addresses) is refused.

Addresses are judged by a list of our own of what is not the public internet (IANA's registries of special-purpose
addresses): what the standard library calls global differs from release to release.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote, urljoin

from msgspec import Struct

from antiphon.errors import InvalidRequest
from antiphon.limits import FetchConfig

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARS_MAX: Final = 8_192
HOST_CHARS_MAX: Final = 253
_PORTS: Final = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.ASCII)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII)
_UNWANTED = re.compile(r"[\x00-\x20\x7f\\]|[^\S ]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_KEPT: Final = "!#$%&'()*+,/:;=?@[]~"

_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments, among them Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is given out as global unicast; loopback, private, link-local, multicast lie outside."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


class Target(Struct, frozen=True, kw_only=True):
    """A URL taken apart. `url` is the same one written anew; `address` is set where its host is one."""

    url: str
    scheme: str
    host: str
    port: int
    address: Address | None = None


def target_of(url: str) -> Target:
    """A client's URL. Raises `InvalidRequest` (`invalid_url`) for one that has no single meaning, or a credential."""
    if len(url) > URL_CHARS_MAX:
        raise _invalid(f"it is longer than {URL_CHARS_MAX} characters")
    if _UNWANTED.search(url):
        raise _invalid("it has white space, a control character, or a backslash")
    found = _URL.fullmatch(url)
    if found is None:
        raise _invalid("it must begin with http:// or https://")
    scheme, authority, path, query = found[1].lower(), found[2], found[3], found[4] or ""
    if "@" in authority:
        raise _invalid("it must not hold a user or a password")
    parts = _HOST.fullmatch(authority)
    if parts is None:
        raise _invalid("its host or its port cannot be read")
    host, address = _host(parts[1])
    port = int(parts[2]) if parts[2] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise _invalid(f"there is no port {port}")
    place = host if port == _PORTS[scheme] else f"{host}:{port}"
    try:
        written = quote(f"{path or '/'}{query}", safe=_KEPT)
    except UnicodeEncodeError as error:
        raise _invalid("it has half a character") from error
    return Target(url=f"{scheme}://{place}{written}", scheme=scheme, host=host, port=port, address=address)


def redirected(target: Target, location: str) -> Target:
    """Where a redirect leads. Raises `InvalidRequest` as `target_of`, and for one from https to http."""
    if _UNWANTED.search(location):  # which joining would quietly remove
        raise _invalid("it redirects to an address with white space, a control character, or a backslash")
    try:
        following = target_of(urljoin(target.url, location))
    except ValueError as error:
        raise _invalid("it redirects to an address that cannot be read") from error
    if (target.scheme, following.scheme) == ("https", "http"):
        raise _refused("it redirects from https to http")
    return following


def too_often(redirects_max: int) -> InvalidRequest:
    """The error for a URL that redirects again and again."""
    return InvalidRequest(
        f"The URL could not be fetched: it redirects more than {redirects_max} times.", code="url_not_fetched"
    )


class Guard:
    """What the configuration allows. Raises `ValueError` for networks that are none."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self._networks: tuple[Network, ...] = tuple(ip_network(each) for each in config.allowed_networks)

    @cached_property
    def _hosts(self) -> frozenset[str]:
        return frozenset(host.lower().rstrip(".") for host in self.config.allowed_hosts)

    def check(self, target: Target) -> None:
        """Raises `InvalidRequest` (`url_not_allowed`) where no look-up is needed to know that this is not allowed."""
        if not self.config.enabled:
            raise _refused("this server fetches nothing")
        if self.config.ports and target.port not in self.config.ports:
            allowed = ", ".join(map(str, self.config.ports))
            raise _refused(f"its port {target.port} is none of those allowed: {allowed}")
        if target.address is not None:
            self.check_addresses(target.host, [target.address])

    def check_addresses(self, host: str, addresses: Sequence[Address]) -> None:
        """Raises `InvalidRequest` unless each of a host's addresses is one that may be connected to."""
        if host not in self._hosts and not (addresses and all(map(self.is_allowed, addresses))):
            raise _refused("its host is not on the public internet")

    def is_allowed(self, address: Address) -> bool:
        """Whether the address is public, or in a network that the configuration allows."""
        meant = _meant(address)
        return is_public(address) or any(meant in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether the address is global unicast, whatever it is wrapped in."""
    meant = _meant(address)
    if isinstance(meant, IPv6Address) and (meant not in _UNICAST or (int(meant) >> 32) & 0xFFFFFFFF in _ISATAP):
        return False
    return not any(meant in network for network in _NOT_PUBLIC)


def addresses_in(found: Iterable[str]) -> list[Address]:
    """Addresses as a resolver gives them; one with a zone is none that can be judged, and raises `ValueError`."""
    return [_judgeable(ip_address(each)) for each in found]


def _judgeable(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{address} has a zone")
    return address


def _meant(address: Address) -> Address:
    """The address that packets go to: an IPv4 address may come as IPv6, mapped or through NAT64."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _host(written: str) -> tuple[str, Address | None]:
    """The host as it is looked up, and its address if it is one."""
    if written.startswith("["):
        try:
            address = IPv6Address(written[1:-1])
        except ValueError as error:
            raise _invalid("its IPv6 address cannot be read") from error
        return f"[{address.compressed}]", address
    try:
        name = written[:HOST_CHARS_MAX].encode("idna").decode("ascii").lower().removesuffix(".")
        name.encode("ascii").decode("idna")  # what stands for other letters must stand for some
    except UnicodeError as error:
        raise _invalid("its host is no name") from error
    labels = name.split(".")
    if len(written) > HOST_CHARS_MAX or len(name) > HOST_CHARS_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise _invalid("its host is no name")
    if not _NUMBER.fullmatch(labels[-1]):
        return name, None
    try:  # what ends in a number is an address, in the one form that everybody reads alike
        address4 = IPv4Address(name)
    except ValueError as error:
        raise _invalid("its host is a number, but no IPv4 address such as 192.0.2.1") from error
    return str(address4), address4


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(f"The URL cannot be used: {why}.", code="invalid_url")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"The URL cannot be fetched: {why}.", code="url_not_allowed")
