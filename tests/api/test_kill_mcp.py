"""A server is killed while an MCP tool that it called may have taken effect: nobody calls it a second time."""

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.script import Gate
from antiphon.testing.server import running, until
from mcp_server import TOKEN, McpHost

MODEL = "scripted/scripted-model"


def test_an_approved_call_that_was_under_way_is_not_made_again(host: Host, tmp_path: Path) -> None:
    with McpHost() as mcp:
        mcp.gates = {"g": Gate()}
        settings: dict[str, Any] = {
            "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
            "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
            "background": {"lease_s": 1},
            "log_level": "debug",
        }
        tool = {"type": "mcp", "server_label": "lab", "server_url": mcp.url("/auth/mcp"), "authorization": TOKEN}
        host.answer(Reply(calls=[Call(name="wait", arguments='{"gate": "g"}')]), Reply(text=["Who knows?"]))
        with running(settings, tmp_path, process=True) as server:
            first = server.post("/responses", {"model": MODEL, "input": "Act", "tools": [tool]}).json
            question = first["output"][-1]
            answer = {"type": "mcp_approval_response", "approval_request_id": question["id"], "approve": True}
            body = {"model": MODEL, "input": [answer], "tools": [tool], "previous_response_id": first["id"]}
            made = server.post("/responses", {**body, "background": True}).json
            mcp.gates["g"].wait()
            server.kill()
        kept = [file.name for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
        assert kept == [], "the token is stored or logged in clear"
        mcp.gates["g"].open()
        with running(settings, tmp_path, process=True) as server:
            path = f"/responses/{made['id']}"
            ended = until(lambda: server.get(path).json, lambda seen: seen["status"] not in ("queued", "in_progress"))
            again = server.stream(**body)
        call, message = ended["output"]
        assert (call["type"], call["status"], call["approval_request_id"]) == ("mcp_call", "failed", question["id"])
        assert "not known whether" in call["error"]["message"]
        assert message["content"][0]["text"] == "Who knows?"
        assert "counts once" in again.items[0]["error"]["message"]
        assert mcp.calls["wait"] == 1


def test_a_tool_that_was_called_under_a_key_is_not_called_again(host: Host, tmp_path: Path) -> None:
    with McpHost() as mcp, ThreadPoolExecutor() as pool:
        mcp.gates = {"g": Gate()}
        settings: dict[str, Any] = {
            "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
            "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
            "background": {"lease_s": 1},
        }
        group = {"toolgroup_id": "lab", "provider_id": "mcp", "mcp_endpoint": {"uri": mcp.url()}}
        call = ("/tool-runtime/invoke", {"tool_name": "wait", "kwargs": {"gate": "g"}}, {"Idempotency-Key": "once"})
        with running(settings, tmp_path, process=True) as server:
            assert server.post("/toolgroups", group).status == 200
            asked = pool.submit(server.post, *call)
            mcp.gates["g"].wait()
            server.kill()
            assert isinstance(asked.exception(), OSError | HTTPException)
        mcp.gates["g"].open()
        with running(settings, tmp_path, process=True) as server:
            got = server.post(*call)
        assert (got.status, got.json["error"]["code"]) == (409, "outcome_unknown")
        assert mcp.calls["wait"] == 1
