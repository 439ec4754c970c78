"""What Llama Stack's and OGX's clients read at start."""

from pathlib import Path

from antiphon import __version__
from antiphon.testing.host import Host
from antiphon.testing.server import Server, running


def test_hosts_are_listed_as_providers_with_their_secrets_masked(host: Host, tmp_path: Path) -> None:
    hosts = {
        "one": {"base_url": host.url, "preset": "vllm", "key": "sk-very-secret", "headers": {"x-secret": "hidden"}},
        "two": {"base_url": "http://127.0.0.1:9/v1", "preset": "custom"},
    }
    with running({"hosts": hosts}, tmp_path) as server:
        one, two, *indexes = server.get("/providers").json["data"]
        assert {each["api"] for each in indexes} == {"vector_io"}
        assert (one["api"], one["provider_id"], one["provider_type"]) == ("inference", "one", "remote::vllm")
        assert one["config"]["base_url"] == host.url
        assert one["config"]["api_key"] == "********"
        assert one["health"] == {"status": "OK"}
        assert (two["provider_id"], two["health"]["status"]) == ("two", "Error")
        assert two["health"]["message"]
        whole = server.get("/providers").body
        assert b"very-secret" not in whole
        assert b"hidden" not in whole
        assert server.get("/providers/one").json == one


def test_an_unknown_provider_is_a_404(server: Server) -> None:
    got = server.get("/providers/nobody")
    assert (got.status, got.json["error"]["code"]) == (404, "provider_not_found")


def test_version_and_health_have_llama_stacks_shapes(server: Server) -> None:
    assert server.get("/version").json == {"version": __version__}
    assert server.get("/health").json == {"status": "OK"}


def test_routes_are_listed(server: Server) -> None:
    routes = {(each["method"], each["route"]) for each in server.get("/inspect/routes").json["data"]}
    assert {("POST", "/v1/responses"), ("GET", "/v1/models"), ("GET", "/v1/inspect/routes")} <= routes
