"""Search providers: what each is asked, and what its answer means; recorded shapes, no network."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from antiphon.errors import Upstream
from antiphon.exchange import Incoming
from antiphon.models.base import Access
from antiphon.plugins import search_factory
from antiphon.tooling import SearchProviderConfig
from antiphon.tools.web.base import Endpoint, Wanted, domains, sited
from antiphon.wire.tools import UserLocation

WANTED = Wanted(
    query="q & a",
    count=3,
    location=UserLocation(country="NO", city="Oslo", region="Østlandet"),
    allowed=("example.org",),
    blocked=("bad.org",),
)


class Scripted:
    """A transport that gives one answer and keeps what it was asked."""

    def __init__(self, body, status=200):
        self.body, self.status, self.asked = body, status, None

    async def send(self, request):
        self.asked = request
        return Incoming(
            self.status, {}, _once(self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode())
        )

    async def close(self):
        """Holds nothing."""


async def _once(content):
    yield content


def provider(kind, transport, **config):
    config = {"key": "k", **config}
    if kind == "searxng":
        config = {"base_url": "http://127.0.0.1:8888/", **config}
    return search_factory(kind)(Endpoint(kind, SearchProviderConfig(**config), transport))


async def test_tavily_is_asked_and_its_results_are_told_as_they_are():
    result = {"url": "https://example.org/a", "title": "A", "content": "Text", "score": 0.9, "raw_content": None}
    transport = Scripted({"results": [result, {"url": "javascript:x"}, "nonsense"]})
    (found,) = await provider("tavily", transport).search(WANTED, Access())
    assert (found.url, found.title, found.snippet, found.told) == ("https://example.org/a", "A", "Text", result)
    assert transport.asked.url == "https://api.tavily.com/search"
    assert transport.asked.headers["Authorization"] == "Bearer k"
    assert json.loads(transport.asked.body) == {
        "query": "q & a",
        "max_results": 3,
        "include_domains": ["example.org"],
        "exclude_domains": ["bad.org"],
    }


async def test_brave_is_asked_with_operators_and_the_place_as_headers():
    result = {
        "url": "https://example.org/a",
        "title": "A &amp; <strong>B</strong>",
        "description": "One <strong>two</strong>",
    }
    transport = Scripted({"web": {"results": [result | {"extra_snippets": ["Three"], "page_age": "2025-01-15"}]}})
    (found,) = await provider("brave", transport).search(WANTED, Access())
    assert (found.title, found.snippet, found.published) == ("A & B", "One two\nThree", "2025-01-15")
    asked = parse_qs(urlsplit(transport.asked.url).query)
    assert asked == {"q": ["q & a site:example.org -site:bad.org"], "count": ["3"], "result_filter": ["web"]}
    assert transport.asked.headers["X-Subscription-Token"] == "k"
    assert transport.asked.headers["X-Loc-City"] == "Oslo"
    assert "X-Loc-State-Name" not in transport.asked.headers  # HTTP headers are ASCII


async def test_exa_is_asked_for_the_text_of_pages():
    result = {"url": "https://example.org/a", "title": None, "text": "Text", "publishedDate": "2025-01-15"}
    transport = Scripted({"results": [result]})
    (found,) = await provider("exa", transport).search(WANTED, Access())
    assert (found.title, found.snippet, found.published) == ("https://example.org/a", "Text", "2025-01-15")
    assert transport.asked.headers["x-api-key"] == "k"
    assert json.loads(transport.asked.body) == {
        "query": "q & a",
        "numResults": 3,
        "contents": {"text": {"maxCharacters": 1000}},
        "includeDomains": ["example.org"],
        "excludeDomains": ["bad.org"],
        "userLocation": "NO",
    }


async def test_searxng_is_asked_for_json_and_its_results_are_counted():
    results = [{"url": f"https://example.org/{number}", "title": "T", "content": "Text"} for number in range(9)]
    transport = Scripted({"results": results})
    found = await provider("searxng", transport, key="").search(WANTED, Access())
    assert [each.url for each in found] == [f"https://example.org/{number}" for number in range(3)]
    assert transport.asked.url.startswith("http://127.0.0.1:8888/search?q=q+%26+a")
    assert "Authorization" not in transport.asked.headers


@pytest.mark.parametrize("kind", ["tavily", "brave", "exa", "searxng"])
async def test_an_answer_of_another_shape_is_no_result(kind):
    for body in ({}, [], {"results": "x", "web": []}, {"web": {"results": None}}):
        assert await provider(kind, Scripted(body)).search(WANTED, Access()) == []


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"denied", 401, "'tavily' answered with status 401"),
        (b"<html>", 200, "'tavily' sent something that is not JSON"),
    ],
)
async def test_what_a_provider_refuses_is_told_without_its_words(body, status, told):
    with pytest.raises(Upstream, match=told):
        await provider("tavily", Scripted(body, status)).search(WANTED, Access())


async def test_a_clients_own_key_is_used_in_place_of_the_configured_one():
    transport = Scripted({"results": []})
    access = Access(key="for the model host", keys={"tavily_search_api_key": "mine"})
    await provider("tavily", transport).search(WANTED, access)
    assert transport.asked.headers["Authorization"] == "Bearer mine"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/a", True),
        ("https://sub.EXAMPLE.org/a", True),
        ("https://notexample.org/", False),
        ("https://example.org.evil.com/", False),
        ("https://bad.example.org/", False),
        ("https://x.bad.example.org/", False),
        ("https://[broken/", False),
    ],
)
def test_domains_hold_with_their_subdomains(url, allowed):
    wanted = Wanted(
        query="q", count=1, allowed=domains(["https://www.Example.org/x"], "f"), blocked=("bad.example.org",)
    )
    assert wanted.allows(url) is allowed


def test_several_domains_are_alternatives():
    assert sited(Wanted(query="q", count=1, allowed=("a.org", "b.org"))) == "q (site:a.org OR site:b.org)"
    assert sited(Wanted(query="q", count=1)) == "q"
