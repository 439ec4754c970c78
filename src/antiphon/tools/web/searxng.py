"""SearXNG, on a machine of one's own: it must be allowed to answer in JSON (`search.formats`)."""

from typing import Any

from antiphon.models.base import Access
from antiphon.tools.web.base import Endpoint, Result, Wanted, found, sited


class SearXNG:
    """Searches by `GET /search`. How many results there are, it decides itself; it does not know where a user is."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def search(self, wanted: Wanted, access: Access) -> list[Result]:
        """What its engines find."""
        key = self._endpoint.key(access)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        params = {"q": sited(wanted), "format": "json"}
        answer = await self._endpoint.get("/search", params, headers, access=access)
        results = found(answer.get("results") if isinstance(answer, dict) else None)
        return [_result(each) for each in results[: wanted.count]]


def _result(each: dict[str, Any]) -> Result:
    title, text = str(each.get("title") or each["url"]), str(each.get("content") or "")
    told = {"url": each["url"], "title": title, "content": text}
    if each.get("publishedDate"):
        told["published"] = each["publishedDate"]
    return Result(url=each["url"], title=title, snippet=text, published=each.get("publishedDate"), told=told)
