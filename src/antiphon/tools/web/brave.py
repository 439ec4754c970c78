"""Brave's web search."""

import re
from html import unescape
from typing import Any

from antiphon.models.base import Access
from antiphon.tools.web.base import Endpoint, Result, Wanted, found, sited

_MARKUP = re.compile(r"</?strong>")
COUNT_MAX = 20


class Brave:
    """Searches by `GET /res/v1/web/search`; domains become operators of the query, the place becomes headers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def search(self, wanted: Wanted, access: Access) -> list[Result]:
        """What Brave finds on the web."""
        params = {"q": sited(wanted), "count": str(min(wanted.count, COUNT_MAX)), "result_filter": "web"}
        headers = {"X-Subscription-Token": self._endpoint.key(access)}
        if place := wanted.location:
            parts = {"Country": place.country, "State-Name": place.region, "City": place.city}
            parts["Timezone"] = place.timezone
            headers |= {f"X-Loc-{name}": value for name, value in parts.items() if value and value.isascii()}
        answer = await self._endpoint.get("/res/v1/web/search", params, headers, access=access)
        web = answer.get("web") if isinstance(answer, dict) else None
        return [_result(each) for each in found(web.get("results") if isinstance(web, dict) else None)]


def _result(each: dict[str, Any]) -> Result:
    texts = [each.get("description"), *(each.get("extra_snippets") or [])]
    snippet = "\n".join(unescape(_MARKUP.sub("", str(text))) for text in texts if text)
    title = unescape(_MARKUP.sub("", str(each.get("title") or each["url"])))
    told = {"url": each["url"], "title": title, "content": snippet}
    if each.get("page_age"):
        told["published"] = each["page_age"]
    return Result(url=each["url"], title=title, snippet=snippet, published=each.get("page_age"), told=told)
