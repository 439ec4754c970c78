"""Tests are code that is trusted without being tested: they keep rules as well."""

import ast
from pathlib import Path

FORBIDDEN = {
    "mock": "a seam is missing where a mock is wanted",
    "time.sleep": "no test sleeps to wait: wait for what happens",
    "asyncio.sleep": "likewise; `asyncio.sleep(0)` lets others run and is fine",
    "pytest.skip": "a skipped test hides a failure",
    "pytest.importorskip": "likewise",
    "pytest.xfail": "likewise",
    "pytest.mark.skip": "likewise",
    "pytest.mark.skipif": "likewise",
    "pytest.mark.xfail": "likewise",
}
ASSERTING = {
    "raises",
    "fail",
    "check",  # testing.rules: all rules of a stream
    "stream",  # testing.server: likewise
    "case",  # a case of a shipped suite
    "timeout",  # what is awaited within it happens, or the test fails
    "wait_for",  # likewise
}
MAY_SKIP = "conftest.py"  # the folder of recordings beside the repository is not part of it

NO_UNIT_TEST = {
    "vectors/rewrite.py": "tests/api/test_sdk_vector_stores.py asks a model by it",
    "app.py": "the composition root: every test in tests/api goes through it",
    "drain.py": "tests/api/test_stop.py",
    "supervisor.py": "tests/api/test_workers.py",
    "check.py": "tests/unit/test_cli.py",
    "clock.py": "three lines",
    "exchange.py": "the seam's types; tests/unit/test_egress.py and tests/replay",
    "sections.py": "records",
    "settings.py": "tests/unit/test_config.py",
    "addresses.py": "tests/unit/test_config.py",
    "tooling.py": "tests/unit/test_config.py",
    "models/images.py": "tests/api/test_sdk_hosted_tools.py",
    "tools/image_generation.py": "tests/api/test_sdk_hosted_tools.py: what matters is what a host is asked",
    "limits.py": "a record; tests/api/test_limits.py tests each",
    "hosted.py": "a record; tests/unit/test_config.py",
    "knowledge.py": "a record; tests/unit/test_config.py",
    "connectors.py": "records; tests/unit/test_config.py",
    "tools/mcp_client.py": "tests/unit/tools/test_mcp_sessions.py, over real servers",
    "auth/principal.py": "a record",
    "models/base.py": "records and protocols",
    "vectors/base.py": "records and protocols",
    "vectors/reader.py": "tests/unit/vectors/test_parse.py",
    "vectors/segments.py": "tests/unit/vectors/test_exact.py searches in them",
    "vectors/shelf.py": "tests/unit/vectors/test_sqlite_index.py",
    "vectors/chunk_rows.py": "tests/contract/test_indexes.py",
    "vectors/pg_index.py": "tests/contract/test_indexes.py",
    "vectors/qdrant_index.py": "tests/contract/test_indexes.py",
    "engine/run.py": "a record",
    "engine/open_items.py": "tests/unit/engine/test_emit.py",
    "engine/writing.py": "tests/unit/engine/test_emit.py",
    "engine/context.py": "tests/unit/engine/test_prepare.py, test_dispatch.py",
    "tools/sandbox/base.py": "records and protocols",
    **{
        f"tools/sandbox/{name}.py": "tests/contract/test_sandbox.py attacks them together"
        for name in ("frames", "jail", "kernel", "launcher", "seccomp", "warden", "worker")
    },
    "tools/code_interpreter.py": "tests/api/test_sdk_code.py",
    "tools/hosted_shell.py": "tests/api/test_sdk_code.py",
    "tools/rag.py": "tests/api/test_tool_groups.py",
    "tools/built_in_groups.py": "tests/api/test_tool_groups.py",
    "tools/base.py": "records and a protocol",
    "tools/offers.py": "tests/unit/tools/test_client.py",
    "engine/journal.py": "tests/unit/engine/test_emit.py shows streams again from it",
}
TESTED_ELSEWHERE = {
    "api": "tests/api judges the running server",
    "demo": "tests/docs/test_demo.py",
    "replay": "tests/replay",
    "stores": "tests/contract",
    "wire": "tests/unit/wire/test_published.py compares all of them with the published document",
    "testing": "used by nearly every test",
}


def test_unit_tests_mirror_the_package(package, tests):
    ours = {part for module in package for part in (module.path, f"{Path(module.path).parent}.py")} | {"stores/sql.py"}
    units = [Path(module.path).relative_to("unit") for module in tests if module.path.startswith("unit/")]
    mirrored = {str(path.with_name(path.name.removeprefix("test_"))) for path in units if path.name.startswith("test_")}

    assert sorted(mirrored - ours - {"wire/published.py"}) == []


def test_every_module_is_tested_by_name_or_there_is_a_reason(package, tests):
    units = {module.path.removeprefix("unit/").replace("test_", "") for module in tests}
    code = {module.path for module in package if not module.path.endswith("__init__.py")}
    code -= {path for path in code if f"{Path(path).parent}.py" in units}  # a folder that is tested as one
    untested = {path for path in code - units - NO_UNIT_TEST.keys() if path.split("/")[0] not in TESTED_ELSEWHERE}

    assert sorted(untested) == []


def test_no_test_mocks_sleeps_or_skips(tests):
    found = [f"{module.path}:{line} {what}" for module in tests for line, what in misused(module)]

    assert found == []


def misused(module):
    """Uses of what tests do without."""
    for node in ast.walk(module.tree):
        name = dotted(node.func) if isinstance(node, ast.Call) else dotted(node)
        if isinstance(node, ast.ImportFrom | ast.Import) and any("mock" in name for name in imported_names(node)):
            yield node.lineno, "mock"
        elif name in FORBIDDEN and (isinstance(node, ast.Call) or "mark" in name) and not is_allowed(node, module.path):
            yield node.lineno, name


def imported_names(node):
    """Everything that an import statement mentions."""
    return [getattr(node, "module", None) or "", *(each.name for each in node.names)]


def is_allowed(node, path):
    """`sleep(0)`; a process that works beside the test may pause; and the folder of recordings may be missing."""
    zero = isinstance(node, ast.Call) and [getattr(each, "value", None) for each in node.args] == [0]
    beside = not Path(path).name.startswith(("test_", "conftest")) and dotted(node.func).endswith("sleep")
    return zero or beside or path == MAY_SKIP


def dotted(node):
    """`a.b.c` as text, for a name or a chain of attributes."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_every_test_asserts_something(cases, tests):
    """Itself, or through what it calls: a check of the shipped rules, a suite, or a function of its own file."""
    asserting = {
        node.name
        for module in tests
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and asserts(node, set())
    }

    assert [case.where for case in cases if not asserts(case.node, asserting)] == []


def asserts(node, known):
    """Whether something in a function can fail on purpose."""
    for each in ast.walk(node):
        if isinstance(each, ast.Assert) or (isinstance(each, ast.Attribute) and each.attr == "abort_seen"):
            return True
        if isinstance(each, ast.Call):
            name = dotted(each.func)
            last = name.rpartition(".")[2]
            if last in ASSERTING or last in known or "suite" in name:
                return True
    return False


def test_no_assertion_is_always_true(tests):
    found = [
        f"{module.path}:{node.lineno}"
        for module in tests
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple)
    ]

    assert found == []


def test_names_say_the_behaviour(cases):
    """Three words at least: a noun says what is looked at, a sentence what it does. Cases of a suite have their own."""
    spoken = [case for case in cases if "case" not in {each.arg for each in case.node.args.args}]

    assert [case.where for case in spoken if len(case.node.name.removeprefix("test_").split("_")) < 3] == []
