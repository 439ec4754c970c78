"""The harbour's tide gauge: an MCP server, built with the official SDK, that the demo starts as a process of its own.

python -m antiphon.demo.tide_gauge 8123     # speaks MCP at http://127.0.0.1:8123/mcp
"""

import asyncio
import sys
from typing import Final

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

READING_S: Final = 0.5

server = MCPServer("tide gauge", log_level="ERROR")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def water_depth(place: str) -> str:
    """How deep the water is at a place of the harbour, in metres."""
    _tell(f"reads the depth at the {place}")
    await asyncio.sleep(READING_S)
    return f"{place}: 3.2 metres, falling"


@server.tool()
def sound_horn(blasts: int) -> str:
    """Sounds the horn, which the whole harbour hears."""
    _tell(f"sounds the horn: {' '.join(['TOOT'] * blasts)}")
    return f"{blasts} blasts sounded"


def _tell(text: str) -> None:
    """One line of the demo, said by this process."""
    print(f"  {'gauge':>8} | {text}", flush=True)


if __name__ == "__main__":
    server.run("streamable-http", port=int(sys.argv[1]))
