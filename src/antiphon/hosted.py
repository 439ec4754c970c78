"""Settings of what the server runs for a model by itself: code."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MEGABYTE = 2**20
PYTHON_DESCRIPTION = (
    "Runs Python code in a sandbox without network. What was defined in earlier calls is still there; the value of the"
    " last expression, everything printed, and open matplotlib figures are returned. Files are in /mnt/data, and those"
    " that are written there are kept: give the user a Markdown link to sandbox:/mnt/data/ and the name."
)


class SandboxConfig(Struct, frozen=True, kw_only=True):
    """Where code is run that a model wrote: the tools `code_interpreter` and, in a container, `shell`."""

    enabled: Annotated[bool, Meta(description="Run code that models write, in a sandbox.")] = False
    kind: Annotated[
        str, Meta(description="`kernel` (namespaces of this machine's Linux), or the name of a plug-in.")
    ] = "kernel"
    options: Annotated[dict[str, str], Meta(description="What a plug-in wants to know.", extra={"secret": True})] = (
        msgspec.field(default_factory=dict)
    )
    python: Annotated[
        str,
        Meta(
            description="The interpreter, such as that of a virtual environment with numpy and matplotlib; by default"
            " the server's own, without its packages."
        ),
    ] = ""
    read_only: Annotated[
        list[str], Meta(description="Further folders that the code may read, at the same path; never writable.")
    ] = msgspec.field(default_factory=list)
    wall_s: Annotated[float, Meta(gt=0, description="How long one call may take.")] = 45.0
    cpu_s: Annotated[float, Meta(gt=0, description="Processor time of one call, all its processes together.")] = 60.0
    memory_mb: Annotated[
        int, Meta(ge=64, description="Memory of one container, its files not included; `memory_limit` may not be more.")
    ] = 1024
    disk_mb: Annotated[int, Meta(ge=1, description="Files of one container; they take memory while it is open.")] = 256
    processes: Annotated[int, Meta(ge=4, description="Processes and threads of one container.")] = 64
    output_bytes: Annotated[int, Meta(ge=1024, description="Output of one call that is kept.")] = 65_536
    open_max: Annotated[int, Meta(ge=1, description="Containers that this process holds open at once.")] = 8
    idle_s: Annotated[float, Meta(gt=0, description="After how long without a call an open container is closed.")] = (
        300.0
    )
    expires_minutes: Annotated[
        int, Meta(ge=1, description="After how long without use a container and its files go.")
    ] = 20
    name: Annotated[str, Meta(description="The function that a model calls to run Python.")] = "python"
    description: Annotated[str, Meta(description="What the model is told of it.")] = PYTHON_DESCRIPTION
