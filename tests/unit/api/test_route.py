"""Decoding a request into what its route declares, and saying what is wrong with it."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Raw, Struct

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.config import Config
from antiphon.limits import Limits


class Part(Struct):
    role: str


class Body(Struct, kw_only=True):
    name: str
    parts: list[Part] = []
    raw: Raw = Raw(b"[]")
    count: Annotated[int, Meta(le=10)] = 0


class Loose(Struct, kw_only=True):
    name: str | None = None


class Query(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    include: list[str] = []


@route("POST", "/things", body=Body)
async def make(call: Call[Body, None]) -> Any:
    """Make a thing."""
    return {"name": call.body.name, "raw": call.body.raw, "seed": call.seed.decode()}


@route("POST", "/loose", body=Loose, forwards=True)
async def loose(call: Call[Loose, None]) -> Any:
    return {"raw": call.raw.decode()}


@route("GET", "/things/{thing}", query=Query)
async def get(call: Call[None, Query]) -> Any:
    return {"thing": call.params["thing"], "limit": call.query.limit, "include": call.query.include}


@route("GET", "/plain")
async def plain(call: Call[None, None]) -> bytes:
    return b'{"plain":true}'


async def test_a_body_is_decoded_and_the_answer_encoded(app) -> None:
    got = await (await app(make)).ask("POST", "/things", {"name": "x", "raw": [1, 2]})
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.headers["content-length"] == str(len(got.body))
    assert got.json["name"] == "x"
    assert got.json["raw"] == [1, 2]


async def test_the_seed_is_method_path_and_body(app) -> None:
    got = await (await app(make)).ask("POST", "/things", b'{"name":"x"}')
    assert got.json["seed"] == 'POST /things\n{"name":"x"}'


async def test_bytes_are_answered_as_they_are(app) -> None:
    assert (await (await app(plain)).ask("GET", "/plain")).body == b'{"plain":true}'


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"  ", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"name": "\xff"}', "invalid_json", None),
        (b'{"name": "x", "other": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "invalid_json", None),
        (b"[]", "invalid_type", None),
        (b"{}", "missing_required_parameter", "name"),
        (b'{"name": 1}', "invalid_type", "name"),
        (b'{"name": "x", "parts": [{"role": "a"}, {"role": 2}]}', "invalid_type", "parts[1].role"),
        (b'{"name": "x", "parts": [{}]}', "missing_required_parameter", "parts[0].role"),
        (b'{"name": "x", "count": 11}', "invalid_value", "count"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_with_its_place(app, body, code, param) -> None:
    got = await (await app(make)).ask("POST", "/things", body)
    assert got.status == 400
    assert got.error["type"] == "invalid_request_error"
    assert got.error["code"] == code
    assert got.error["message"]
    assert got.error["param"] == param


async def test_an_empty_body_is_an_empty_object_where_nothing_is_required(app) -> None:
    assert (await (await app(loose)).ask("POST", "/loose", b"")).status == 200


async def test_unknown_fields_are_accepted_and_named(app) -> None:
    got = await (await app(make)).ask("POST", "/things", {"name": "x", "colour": 1, "süß": 2})
    assert got.status == 200
    assert got.headers["x-antiphon-warnings"] == "unknown field: colour; unknown field: s??"


async def test_unknown_fields_are_refused_in_strict_mode(app) -> None:
    strict = await app(make, get, config=Config(strict=True))
    got = await strict.ask("POST", "/things", {"name": "x", "colour": 1})
    assert (got.status, got.error["code"], got.error["param"]) == (400, "unknown_parameter", "colour")
    got = await strict.ask("GET", "/things/1?colour=1")
    assert (got.status, got.error["code"], got.error["param"]) == (400, "unknown_parameter", "colour")


async def test_a_route_that_forwards_reports_no_unknown_fields(app) -> None:
    got = await (await app(loose, config=Config(strict=True))).ask("POST", "/loose", {"anything": 1})
    assert got.status == 200
    assert "x-antiphon-warnings" not in got.headers


async def test_unknown_query_parameters_are_named_also_where_none_is_expected(app) -> None:
    running = await app(get, plain)
    assert (await running.ask("GET", "/things/1?a=1")).headers["x-antiphon-warnings"] == "unknown query parameter: a"
    assert (await running.ask("GET", "/plain?a=1")).headers["x-antiphon-warnings"] == "unknown query parameter: a"


async def test_a_query_is_decoded_and_its_limits_hold(app) -> None:
    running = await app(get)
    got = await running.ask("GET", "/things/a?limit=5&include[]=x&include[]=y")
    assert got.json == {"thing": "a", "limit": 5, "include": ["x", "y"]}
    got = await running.ask("GET", "/things/a?limit=101")
    assert (got.status, got.error["param"]) == (400, "limit")


async def test_a_body_that_announces_to_be_too_large_is_not_read(app) -> None:
    running = await app(make, config=Config(limits=Limits(body_bytes_max=10)))
    got = await running.ask("POST", "/things", pieces=[], headers={"content-length": "11"})
    assert (got.status, got.error["code"]) == (413, "request_too_large")
    assert "10 bytes" in got.error["message"]


async def test_a_body_that_turns_out_to_be_too_large_is_refused(app) -> None:
    running = await app(make, config=Config(limits=Limits(body_bytes_max=10)))
    got = await running.ask("POST", "/things", pieces=[b'{"name"', b': "xxx"}'], headers={"content-length": "1"})
    assert got.status == 413


async def test_a_body_of_just_the_limit_is_accepted(app) -> None:
    body = b'{"name":"x"}'
    running = await app(make, config=Config(limits=Limits(body_bytes_max=len(body))))
    assert (await running.ask("POST", "/things", body)).status == 200


async def test_a_body_in_pieces_is_put_together(app) -> None:
    got = await (await app(make)).ask("POST", "/things", pieces=[b'{"na', b'me":', b'"x"}'])
    assert got.json["name"] == "x"


def test_a_route_is_described_by_its_handler() -> None:
    assert (make.name, make.summary, make.body_required) == ("make", "Make a thing.", True)
    assert not loose.body_required
    assert msgspec.structs.fields(make.body)[0].name == "name"
