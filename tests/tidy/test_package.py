"""What is shipped, and what it is built from."""

import re
import subprocess
import sys
import tomllib
import zipfile


def test_the_wheel_holds_everything_the_server_needs(root, tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert "antiphon/recordings/default.json" in names, "the demo plays it"
    assert any(name.startswith("antiphon/stores/sql/sqlite/") for name in names), "the database is made of it"
    assert any(name.endswith("entry_points.txt") for name in names)
    assert "antiphon/py.typed" in names, "users' type checkers look for it"
    assert [name for name in names if "cache" in name] == []


def test_the_lock_names_every_dependency_with_hashes_and_no_address(root):
    lock = (root / "requirements.lock").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[<>=;\s\[]", each)[0] for each in wanted}
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))

    assert sorted(names - pinned.keys()) == []
    assert "://" not in lock
    assert not re.search(r"==[^\\]*$", lock, re.MULTILINE), "every pin goes on with its hashes"


def test_the_pins_are_within_the_bounds_that_are_declared(root):
    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text())
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (root / "requirements.lock").read_text(), re.MULTILINE))
    wanted = [Requirement(each) for each in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]]

    assert [str(each) for each in wanted if not each.specifier.contains(pinned[each.name])] == []
