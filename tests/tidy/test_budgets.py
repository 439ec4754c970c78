"""Size is a budget with a gate (HOUSE.md, section 7). A limit that hurts is raised by a decision record."""

import ast
import statistics

import size

FILE_LINES_MAX = 500
WIRE_FILE_LINES_MAX = 700  # types only: no control flow to lose one's way in
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_P95_MAX = 40
COMPLEXITY_MAX = 10
PARAMETERS_MAX = 6
POSITIONAL_MAX = 3
NESTING_MAX = 4

BRANCHES = ast.If | ast.IfExp | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case
BLOCKS = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


def test_the_package_stays_within_its_code_lines():
    sizes = size.sizes()

    assert 0 < sum(sizes.values()) <= size.CODE_LINES_MAX, sizes


def test_what_counts_is_code_and_not_what_explains_it():
    source = '"""A module."""\n\nX = 1  # one\n"""Documents X."""\n\n\n'
    source += 'def f():\n    """Doc\n    doc."""\n    # why\n    return (\n        X\n    )\n'

    assert size.code_lines(source) == 1 + 1 + 3


def test_no_file_is_too_long(package):
    def limit(path):
        return WIRE_FILE_LINES_MAX if path.startswith("wire/") else FILE_LINES_MAX

    lines = {module.path: module.source.count("\n") for module in package}
    assert {path: count for path, count in lines.items() if count > limit(path)} == {}


def test_no_function_is_too_long(functions):
    assert [f"{each.where}: {each.lines}" for each in functions if each.lines > FUNCTION_LINES_MAX] == []


def test_nearly_all_functions_are_short(functions):
    p95 = statistics.quantiles([each.lines for each in functions], n=20)[-1]

    assert p95 <= FUNCTION_LINES_P95_MAX


def test_no_function_decides_too_much(functions):
    found = {each.where: complexity(each.node) for each in functions}

    assert {where: count for where, count in found.items() if count > COMPLEXITY_MAX} == {}


def test_no_function_takes_too_many_parameters(functions):
    found = {each.where: len(parameters(each.node)) for each in functions}

    assert {where: count for where, count in found.items() if count > PARAMETERS_MAX} == {}


def test_beyond_three_parameters_they_are_named_by_the_caller(functions):
    """Methods of a class as of a function: `self` is no parameter."""
    found = {each.where: len(positional(each.node)) for each in functions}

    assert {where: count for where, count in found.items() if count > POSITIONAL_MAX} == {}


def test_no_function_is_nested_too_deeply(functions):
    found = {each.where: max(map(nesting, each.node.body)) for each in functions}

    assert {where: depth for where, depth in found.items() if depth > NESTING_MAX} == {}


def test_the_measures_measure():
    source = """
def f(self, a, b, /, c, d=1, *rest, e, **more):
    for x in a:
        if x:
            pass
        elif b:
            with c:
                try:
                    pass
                except ValueError:
                    pass
        else:
            def g():
                if x: pass
    return 1 if a else 2
"""
    node = ast.parse(source).body[0]

    assert len(parameters(node)) == 7
    assert len(positional(node)) == 4
    assert nesting(node.body[0]) == 4
    assert complexity(node) == 1 + 5


def complexity(node):
    """Decisions and one, as McCabe counts; a nested function counts for itself."""
    return 1 + sum(isinstance(each, BRANCHES) for part in node.body for each in walk(part))


def walk(node):
    """A statement and what is below it, nested functions left out."""
    if not isinstance(node, FUNCTIONS):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from walk(child)


def parameters(node):
    """All parameters except `self` and `cls`."""
    extra = [each for each in (node.args.vararg, node.args.kwarg) if each]
    return [*positional(node), *node.args.kwonlyargs, *extra]


def positional(node):
    """The parameters that may be given without their names."""
    found = [*node.args.posonlyargs, *node.args.args]
    return [each for each in found if each.arg not in ("self", "cls")]


def nesting(node, *, chained=False):
    """How many blocks stand in each other; an `if` that is alone in an `else` continues a block and opens none."""
    if isinstance(node, FUNCTIONS):
        return 0
    tail = node.orelse[0] if isinstance(node, ast.If) and len(node.orelse) == 1 else None
    below = [nesting(child, chained=child is tail and isinstance(tail, ast.If)) for child in ast.iter_child_nodes(node)]
    return max(below, default=0) + (isinstance(node, BLOCKS) and not chained)
