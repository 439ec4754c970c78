"""Starts a sandbox: `python -I -m antiphon.tools.sandbox.launcher`, told what it needs by the first frame of its input.

This process stays outside as the parent of the sandbox's first process, which dies with it, and all others with that.
"""

import os
import sys

from antiphon.tools.sandbox import jail
from antiphon.tools.sandbox.frames import frame, read_frame, write_all
from antiphon.tools.sandbox.warden import Plan, Warden


def main() -> int:
    """Returns when the sandbox has ended."""
    first = read_frame(0)
    if first is None:
        return 1
    header, worker = first
    plan = Plan(worker=worker.decode(), **header["plan"])
    try:
        still_root = jail.part()
        jail.die_with(header["parent"])
        child = os.fork()
        if child:
            os.close(0)
            os.close(1)
            os.waitpid(child, 0)
            return 0
        jail.build_root(plan.disk_bytes, plan.paths)
        if still_root:
            jail.become_nobody()
        jail.die_with(0)
        jail.give_up_privileges()
    except (OSError, jail.Refused) as error:
        reason = str(error) if isinstance(error, jail.Refused) else f"A step of the sandbox failed: {error}."
        write_all(1, frame({"refused": reason}))
        return 1
    write_all(1, frame({"ready": True}))
    Warden(plan).serve()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
