"""Exa, which returns the text of the pages it finds."""

from typing import Any, Final

from antiphon.models.base import Access
from antiphon.tools.web.base import Endpoint, Result, Wanted, found

CHARS: Final = {"low": 500, "medium": 1000, "high": 2500}
"""Of each page, by the size of the context that was asked for."""


class Exa:
    """Searches by `POST /search`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def search(self, wanted: Wanted, access: Access) -> list[Result]:
        """What Exa finds."""
        contents = {"text": {"maxCharacters": CHARS[wanted.size]}}
        body: dict[str, Any] = {"query": wanted.query, "numResults": wanted.count, "contents": contents}
        if wanted.allowed:
            body["includeDomains"] = wanted.allowed
        if wanted.blocked:
            body["excludeDomains"] = wanted.blocked
        if wanted.location and wanted.location.country:
            body["userLocation"] = wanted.location.country
        headers = {"x-api-key": self._endpoint.key(access)}
        answer = await self._endpoint.post("/search", body, headers, access=access)
        return [_result(each) for each in found(answer.get("results") if isinstance(answer, dict) else None)]


def _result(each: dict[str, Any]) -> Result:
    title, text = str(each.get("title") or each["url"]), str(each.get("text") or "")
    told = {"url": each["url"], "title": title, "content": text}
    if each.get("publishedDate"):
        told["published"] = each["publishedDate"]
    return Result(url=each["url"], title=title, snippet=text, published=each.get("publishedDate"), told=told)
