"""Tavily, which Llama Stack asks by default: the model is told what it returns as it returns it."""

from typing import Any

from antiphon.models.base import Access
from antiphon.tools.web.base import Endpoint, Result, Wanted, found


class Tavily:
    """Searches by `POST /search`. It has no parameter for where the user is, but by a country's English name."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def search(self, wanted: Wanted, access: Access) -> list[Result]:
        """What Tavily finds."""
        body: dict[str, Any] = {"query": wanted.query, "max_results": wanted.count}
        if wanted.size == "high":
            body["search_depth"] = "advanced"
        if wanted.allowed:
            body["include_domains"] = wanted.allowed
        if wanted.blocked:
            body["exclude_domains"] = wanted.blocked
        headers = {"Authorization": f"Bearer {self._endpoint.key(access)}"}
        answer = await self._endpoint.post("/search", body, headers, access=access)
        return [_result(each) for each in found(answer.get("results") if isinstance(answer, dict) else None)]


def _result(each: dict[str, Any]) -> Result:
    return Result(
        url=each["url"],
        title=str(each.get("title") or each["url"]),
        snippet=str(each.get("content") or ""),
        published=each.get("published_date"),
        told=each,
    )
