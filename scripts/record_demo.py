"""Makes the recording that ships with the package: plays the demo against a scripted model host, recording.

There is no real model behind it: the answers stand below. Run `python scripts/record_demo.py` after changing the demo.
"""

import os
import shutil

from antiphon import demo
from antiphon.testing.host import Call, Host, Reply

ANSWERS = [
    Reply(text=["An antiphon ", "is a song ", "in which ", "two choirs ", "answer ", "each other, ", "line by line."]),
    Reply(calls=[Call(name="get_weather", arguments=['{"city"', ': "Lisbon"}'], id="call_weather_1")]),
    Reply(text=["Yes: ", "it is raining in Lisbon, ", "at 14 degrees. ", "Take the umbrella."]),
    Reply(text=["Nice to meet you, Ada. ", "Beetles are a fine thing to collect."]),
    Reply(text=["You collect beetles, ", "and your name is Ada."]),
]


def main() -> None:
    """Replaces the recording."""
    shutil.rmtree(demo.RECORDINGS, ignore_errors=True)
    with Host(models=["storyteller"]) as host:
        host.answer(*ANSWERS)
        os.environ["ANTIPHON_FIND_HOSTS"] = "false"
        os.environ["ANTIPHON_HOSTS__DEMO__BASE_URL"] = host.url
        with demo.serving("--mode", "record", "--recordings", str(demo.RECORDINGS)) as root:
            demo.run(f"{root}/v1")


if __name__ == "__main__":
    main()
