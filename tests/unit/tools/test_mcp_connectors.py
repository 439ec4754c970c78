"""MCP servers by name: which one is meant, and what it is sent."""

import pytest

from antiphon.connectors import ConnectorConfig
from antiphon.errors import InvalidRequest, NotFound
from antiphon.stores.tool_groups import Registered
from antiphon.tools.mcp_connectors import Connectors, addressed, headers_for

MINE = {"x-key": "mine"}


class Groups:
    """The registered groups of one owner."""

    def __init__(self, *ids):
        self.kept = [Registered(id=id, provider_id="mcp", uri=f"https://{id}.example/mcp") for id in ids]

    async def find(self, owner, id):
        return next((each for each in await self.list(owner) if each.id == id), None)

    async def list(self, owner):
        return self.kept if owner == "us" else []


async def test_a_configured_server_comes_before_a_registered_one_of_its_name():
    lab = ConnectorConfig(url="http://10.0.0.1/mcp", allowed_tools=("look",))
    named = Connectors({"lab": lab}, Groups("lab", "zoo"))
    assert [(each.name, each.url) for each in await named.list("us")] == [
        ("lab", "http://10.0.0.1/mcp"),
        ("zoo", "https://zoo.example/mcp"),
    ]
    lab, zoo = [await named.get("us", name) for name in ("lab", "zoo")]
    assert (lab.registered, zoo.registered.id) == (None, "zoo")
    assert [lab.allows("look"), lab.allows("pay"), zoo.allows("pay")] == [True, False, True]
    with pytest.raises(NotFound, match="'zoo' not found; those of this server are: lab"):
        await named.get("them", "zoo")


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("https://a.example/mcp", True),
        ("HTTPS://A.example:443/mcp?other=1#x", True),
        ("http://a.example/mcp", False),
        ("https://a.example:8443/mcp", False),
        ("https://a.example/", False),
        ("https://a.example/mcp/more", False),
        ("https://b.a.example/mcp", False),
        ("https://a.example@evil.example/mcp", False),
        ("a.example/mcp", False),
    ],
)
def test_headers_are_for_the_address_that_they_name_and_no_other(address, fits):
    assert headers_for({"https://z.example/": {}, address: MINE}, "https://a.example/mcp?k=1") == (MINE if fits else {})


def test_an_address_of_a_clients_is_guarded_and_written_in_one_way():
    server = addressed("HTTP://A.Example:80/mcp#x").server({"Authorization": "old", "x": "1"}, "t")
    assert (server.url, server.guarded) == ("http://a.example/mcp", True)
    assert server.headers == {"x": "1", "authorization": "Bearer t"}
    with pytest.raises(InvalidRequest):
        addressed("ftp://a.example/")
