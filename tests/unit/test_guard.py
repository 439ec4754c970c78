"""The address guard: what a URL means, which addresses are public, and the tricks that play on either."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.errors import InvalidRequest
from antiphon.guard import Guard, addresses_in, is_public, redirected, target_of
from antiphon.limits import FetchConfig

# ---------------------------------------------------------------- URLs

MEANT = {
    "http://example.com": "http://example.com/",
    "HTTPS://Example.COM:443/A?b=c#d": "https://example.com/A?b=c",
    "http://example.com:8080/": "http://example.com:8080/",
    "http://example.com./": "http://example.com/",
    "http://example.com?x": "http://example.com/?x",
    "http://b\u00fccher.example/\u00fc?\u00fc": "http://xn--bcher-kva.example/%C3%BC?%C3%BC",
    "http://\uff45xample\u3002com/": "http://example.com/",
    "http://192.0.2.1/": "http://192.0.2.1/",
    "http://\uff11\uff12\uff17.0.0.1/": "http://127.0.0.1/",
    "http://[2001:DB8::0:1]:80/": "http://[2001:db8::1]/",
    "http://[::ffff:1.2.3.4]/": f"http://[{ip_address('::ffff:102:304')}]/",  # which Python 3.13 writes otherwise
    "http://a_b.example/%2e%2e/%zz": "http://a_b.example/%2e%2e/%zz",
}


@pytest.mark.parametrize("url", MEANT)
def test_a_url_is_written_anew_in_the_one_form_that_all_read_alike(url: str) -> None:
    assert target_of(url).url == MEANT[url]


AMBIGUOUS = [
    *("", "example.com", "//example.com/", "http:/example.com", "http:example.com", "http:///example.com/"),
    *("ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)", "data:,x"),
    *("http\u017f://example.com/", "http://user@example.com/", "http://user:secret@example.com/"),
    *("http://example.com@127.0.0.1/", "http://127.0.0.1:80@example.com/", "http://a@b@c/"),
    *("http://example.com\\@127.0.0.1/", "http:\\\\example.com/", "http://example.com/\\..", "http://exa mple.com/"),
    *(" http://example.com/", "http://example.com/ ", "http://example.com/a b", "http://example.com\t/"),
    *("http://example.com/\r\nHost: x", "http://example.com/\x00", "http://example.com\u00a0/", "http://a\u2028b/"),
    *("http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://017700000001/", "http://0177.0.0.1/"),
    *("http://127.1/", "http://127.0.1/", "http://127.0.0.1.1/", "http://127.0.0.01/", "http://256.0.0.1/"),
    *("http://1.2.3.4.:80:80/", "http://foo.1/", "http://foo.0x1/", "http://0x/", "http://127.0.0.1%00/"),
    *(
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1",
        "http://::1/",
        "http://[]/",
        "http://[v1.x]/",
    ),
    *("http://[::1]x/", "http://[::1]:/", "http://example.com:/", "http://example.com:0/", "http://example.com:65536/"),
    *("http://example.com:\u0661/", "http://example.com:8o/", "http://example.com:-1/", "http://example.com:+80/"),
    *("http://exam%70le.com/", "http://%31%32%37.0.0.1/", "http://a..b/", "http://.example.com/", "http://./"),
    *("http://-a.example/", "http://a-.example/", "http://a\uff0fb.example/", "http://a\u2100b.example/"),
    *("http://a<b>.example/", "http://a;b/", "http://a,b/", "http://" + "a" * 64 + ".example/", "http://x/\ud800"),
    *("http://" + "a." * 200 + "example/", "http://example.com/" + "a" * 9000),
]


@pytest.mark.parametrize("url", AMBIGUOUS)
def test_a_url_with_two_readings_or_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        target_of(url)
    assert caught.value.code == "invalid_url"


PIECES = st.sampled_from(
    [
        *("http://", "https://", "//", "/", "\\", "@", ":", "?", "#", "%", "[", "]", ".", "..", "-", "_", "\t", " "),
        *("example.com", "127.0.0.1", "127", "0x7f", "0", "1", "80", "::1", "fe80::1", "%25", "%2f", "%00", "a", "Z"),
        *("\u3002", "\uff0f", "\uff20", "\u2488", "\u00df", "\u00ad", "\u200d", "\u017f", "xn--", "xn--a"),
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=20))
@example("a.example", "")
def test_whatever_is_accepted_means_the_same_to_every_parser(host: str, path: str) -> None:
    try:
        target = target_of(f"http://{host}/{path}")
    except InvalidRequest:
        return
    assert target_of(target.url) == target
    bare = target.host.strip("[]")
    others = [(parts.scheme, parts.hostname, parts.port or 80) for parts in (urlsplit(target.url),)]
    client = yarl.URL(target.url)
    others.append((client.scheme, str(client.raw_host), client.port or 80))
    assert others == [(target.scheme, bare, target.port)] * 2
    if target.address is not None:
        assert str(ip_address(bare)) == bare


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    for url in (text, f"http://{text}", f"http://[{text}]/"):
        with suppress(InvalidRequest):
            assert target_of(url).port in range(1, 65536)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b", "https://example.com/b"),
        ("c?d", "https://example.com/a/c?d"),
        ("https://other.example/", "https://other.example/"),
        ("//other.example:8443/x", "https://other.example:8443/x"),
    ],
)
def test_a_redirect_is_read_from_where_it_stands(location: str, url: str) -> None:
    assert redirected(target_of("https://example.com/a/b"), location).url == url


@pytest.mark.parametrize(
    "location",
    [
        *("file:///etc/passwd", "//user@127.0.0.1/", "\thttps://example.com", "https:\\\\example.com", "//[::1"),
        *("http://example.com/", "ht\ntp://example.com/", "https://127.1/", "gopher://127.0.0.1:6379/_x"),
    ],
)
def test_a_redirect_that_leads_astray_is_refused(location: str) -> None:
    with pytest.raises(InvalidRequest):
        redirected(target_of("https://example.com/a"), location)


# ---------------------------------------------------------------- addresses

PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "223.255.255.255"]
PUBLIC += ["2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:200::1"]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "192.168.1.1"),
    *("100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:808:808::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:10::1", "2001:db8::1", "3fff::1", "5f00::1"),
    *("2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:10.0.0.1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_anything_else_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_is_public_is_global_to_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        named = ("is_private", "is_loopback", "is_link_local", "is_multicast", "is_unspecified")
        assert [name for name in named if getattr(meant(address), name)] == []


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_no_more_public_when_it_is_wrapped(address: IPv4Address) -> None:
    for wrapped in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(ip_address(wrapped)) == is_public(address)
    number = int(address)
    assert not is_public(IPv6Address((0x2002 << 112) | (number << 80)))
    assert not is_public(IPv6Address(number))


def meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


# ---------------------------------------------------------------- the configuration


def refusal(guard: Guard, url: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        guard.check(target_of(url))
    assert caught.value.code == "url_not_allowed"
    return caught.value.message


def test_an_address_that_is_not_public_needs_no_look_up_to_be_refused() -> None:
    guard = Guard(FetchConfig())
    for url in ("http://127.0.0.1/", "http://[::1]/", "http://[::ffff:a9fe:a9fe]/", "http://169.254.169.254/latest"):
        assert "public" in refusal(guard, url)
    guard.check(target_of("http://8.8.8.8/"))
    guard.check(target_of("http://localhost/"))  # a name: its addresses are judged


def test_hosts_and_networks_that_are_configured_are_allowed() -> None:
    guard = Guard(FetchConfig(allowed_hosts=("Files.internal.",), allowed_networks=("10.1.0.0/16", "fd00::/8")))
    guard.check_addresses("files.internal", addresses_in(["10.2.0.1"]))
    for host in ("http://10.1.2.3/", "http://[fd00::1]/", "http://[::ffff:10.1.2.3]/"):
        guard.check(target_of(host))
    refusal(guard, "http://10.2.0.1/")


def test_one_address_that_is_not_allowed_condemns_its_host() -> None:
    guard = Guard(FetchConfig())
    guard.check_addresses("a.example", addresses_in(["8.8.8.8", "2606:4700::1111"]))
    for found in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], []):
        with pytest.raises(InvalidRequest):
            guard.check_addresses("a.example", addresses_in(found))
    with pytest.raises(ValueError, match="zone"):
        addresses_in(["fe80::1%eth0"])


def test_ports_are_those_of_the_web_unless_configured() -> None:
    assert "6379" in refusal(Guard(FetchConfig()), "http://example.com:6379/")
    Guard(FetchConfig(ports=())).check(target_of("http://example.com:6379/"))
    Guard(FetchConfig(ports=(6379,))).check(target_of("http://example.com:6379/"))


def test_fetching_can_be_switched_off() -> None:
    assert "fetches nothing" in refusal(Guard(FetchConfig(enabled=False)), "http://example.com/")


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        Guard(FetchConfig(allowed_networks=("10.0.0.1/8",)))
