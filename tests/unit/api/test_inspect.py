"""Readiness, and the page for people, where there is nothing to show yet."""

from antiphon.api import inspect


class Models:
    """A catalog of these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    async def list(self):
        return [
            type("Model", (), {"id": name, "model_type": "embedding" if "embed" in name else "llm"})
            for name in self.names
        ]


def lacking(*missing: str):
    async def ready() -> list[str]:
        return list(missing)

    return ready


async def test_what_is_missing_is_named_with_a_503(app) -> None:
    got = await (await app(inspect.ready, ready=lacking("no model host", "no database"))).ask("GET", "/ready")
    assert got.status == 503
    assert got.json == {"status": "unavailable", "missing": ["no model host", "no database"]}


async def test_a_server_that_lacks_nothing_is_ready(app) -> None:
    got = await (await app(inspect.ready, ready=lacking())).ask("GET", "/ready")
    assert (got.status, got.json) == (200, {"status": "ready", "missing": []})


async def test_the_page_says_how_to_add_a_host_where_there_is_none(app) -> None:
    got = await (await app(inspect.page, catalog=Models())).ask("GET", "/", headers={"host": "example.org:1"})
    assert "No model yet" in got.body.decode()
    assert "http://example.org:1/v1/responses" in got.body.decode()


async def test_the_page_asks_a_model_that_answers(app) -> None:
    got = await (await app(inspect.page, catalog=Models("a/embed", "a/chat"))).ask("GET", "/")
    assert "model=&quot;a/chat&quot;" in got.body.decode()


async def test_nothing_on_the_page_is_markup_of_somebody_elses(app) -> None:
    names = ["<script>alert(1)</script>", *(f"m{index}" for index in range(inspect.MODELS_SHOWN + 5))]
    got = await (await app(inspect.page, catalog=Models(*names))).ask("GET", "/", headers={"host": '"><b>'})
    text = got.body.decode()
    assert "<script>" not in text
    assert "<b>" not in text
    assert "and 6 more" in text
