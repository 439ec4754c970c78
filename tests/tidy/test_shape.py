"""Names, inheritance, globals, imports and errors: the rules of the house that a reader relies on."""

import ast
import re
import sys
import tomllib
from collections import Counter

BAD_WORDS = {
    "Impl",
    "Manager",
    "Handler",
    "Helper",
    "Util",
    "Utils",
    "Common",
    "Mixin",
    "Adapter",
    "Wrapper",
    "Data",
    "Info",
}
GOOD_NAMES = {
    "_data": "the field of a server-sent event is called so",
    "handle_data": "html.parser calls it so",
    "ModelInfo": "what a host says about a model; `Model` is the public API's object",
}

DEEPER = {
    "errors": "one tree of errors: a client's fault, and among those the ones with a code of their own",
    "wire": "an item's or event's common fields stand in one base; the public document has the same `allOf`",
}

BROAD = {
    "engine/loop.py": "whatever breaks a run ends it with one terminal event",
    "engine/dispatch.py": "a tool that breaks is an output for the model",
    "tools/sandbox/worker.py": "whatever code raises is what it has to say",
    "engine/background.py": "a worker outlives the run that broke it",
    "engine/jobs.py": "likewise the job that broke it",
    "api/middleware.py": "the outermost handler: everything is an error body",
    "models/local/encoder.py": "two libraries that raise bare exceptions: translated where they are called",
    "api/socket.py": "the same for one turn of a connection, which goes on: everything is an error frame",
}

ENVIRONMENT = {
    "config.py": "every setting is read here",
    "testing/server.py": "hands a clean environment to the process it starts",
}

HEAVY = {
    ("cli.py", "antiphon"): "`antiphon serve` pays for the web server, `antiphon recordings` does not",
    ("cli.py", "antiphon.check"): "the HTTP client",
    ("cli.py", "antiphon.demo"): "only this command plays",
    ("cli.py", "msgspec"): "only `--json` encodes",
    ("demo/scenes.py", "openai"): "an extra; 0.5 s",
    ("testing/server.py", "openai"): "an extra; the server itself does without",
    ("plugins.py", "importlib.metadata"): "40 ms, and only a provider from outside is looked up by it",
    ("testing/rules.py", "openai.types.responses"): "an extra; 0.5 s",
    ("testing/rules.py", "openai"): "likewise",
    ("testing/rules.py", "pydantic"): "likewise",
    ("engine/seal.py", "cryptography.exceptions"): "50 ms, and only servers that seal reasoning pay for it",
    ("engine/seal.py", "cryptography.hazmat.primitives.ciphers.aead"): "likewise",
    ("api/idempotency.py", "cryptography.hazmat.primitives.ciphers.aead"): "likewise, for requests under a key",
    ("stores/blobs.py", "antiphon.stores.s3"): "an extra; 15 MB",
    ("stores/opening.py", "antiphon.stores.procrastinate_jobs"): "an extra; 0.3 s",
    ("stores/opening.py", "antiphon.stores.postgres"): "an extra; 50 ms",
    ("stores/opening.py", "antiphon.stores.pg_signals"): "likewise",
    ("cli.py", "antiphon.stores.opening"): "only `migrate` opens a database by itself",
    ("vectors/readers/encoding.py", "charset_normalizer"): "18 ms of a process for each file, and most are UTF-8",
    ("models/local/encoder.py", "onnxruntime"): "an extra; 0.1 s and 40 MB",
    ("models/local/encoder.py", "tokenizers"): "an extra; only servers with a model in a folder need it",
    ("models/tokens.py", "splintr"): "a vocabulary of several MB, for estimates only",
}


def named(tree):
    """What a module defines: classes, functions, and the names it assigns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def words(name):
    """The words of a name, capitalised: `_parse_data` and `ParseData` have the same."""
    return {part.capitalize() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_names_come_from_the_domain(package):
    found = [
        f"{module.path}:{line} {name}"
        for module in package
        for line, name in [(1, module.path.rsplit("/")[-1].removesuffix(".py")), *named(module.tree)]
        if words(name) & BAD_WORDS and name not in GOOD_NAMES
    ]

    assert found == []


def test_words_are_found_in_both_spellings():
    assert words("_parse_dataURL") == {"Parse", "Data", "Url"}
    assert words("StreamHandler") == {"Stream", "Handler"}


def test_no_class_inherits_from_a_class_of_ours_that_does_the_same(package):
    """Depth one: what a method does is found in one other place at most."""
    bases = {node.name: own_bases(node) for module in package for node in classes(module)}

    def depth(name):
        return 1 + max((depth(base) for base in bases[name] if base in bases), default=-1)

    found = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in package
        if re.split(r"[/.]", module.path)[0] not in DEEPER
        for node in classes(module)
        if depth(node.name) > 1
    ]

    assert found == []


def test_no_class_is_mixed_from_several_of_ours(package):
    ours = {node.name for module in package for node in classes(module)}
    found = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in package
        for node in classes(module)
        if len(ours & set(own_bases(node))) > 1
    ]

    assert found == []


def classes(module):
    """The classes of a module, wherever they stand."""
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]


def own_bases(node):
    """Names of the classes it inherits from."""
    return [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases]


def test_no_state_hides_in_a_module(package):
    """No `global`, no context variable, and nothing at module level is changed after the module is loaded."""
    found = [f"{module.path}:{line} {what}" for module in package for line, what in hidden_state(module.tree)]

    assert found == []


def test_hidden_state_is_found():
    source = "A = {}\nB = []\nC = {}\ndef f():\n    global D\n    A['x'] = 1\n    B.append(1)\n    return C['x']\n"

    assert [what for _, what in hidden_state(ast.parse(source))] == ["global D", "A", "B"]


def hidden_state(tree):
    """Lines at which a function changes what belongs to its module."""
    top = {name.id for node in tree.body for name in targets(node)}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        mine = {name.id for node in ast.walk(function) for name in targets(node)}
        mine |= {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                yield node.lineno, f"global {', '.join(node.names)}"
            elif (changed := changed_name(node)) in top - mine:
                yield node.lineno, changed
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "ContextVar":
            yield node.lineno, "ContextVar"


def targets(node):
    """The plain names that a statement binds."""
    if isinstance(node, ast.Assign):
        yield from (
            name
            for target in node.targets
            for name in ast.walk(target)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        )
    elif isinstance(node, ast.AnnAssign | ast.For | ast.AsyncFor | ast.NamedExpr):
        yield from (
            name for name in ast.walk(node.target) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        )


def changed_name(node):
    """The name whose value a statement changes in place, if it does."""
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return getattr(node.value, "id", None)
    changing = {
        "append",
        "extend",
        "insert",
        "add",
        "update",
        "setdefault",
        "pop",
        "popitem",
        "remove",
        "discard",
        "clear",
    }
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in changing:
        return getattr(node.func.value, "id", None)
    return None


def test_everything_is_caught_in_few_places_only(package):
    """Once in each; to tidy up and raise again there is `finally`, or an exit stack."""
    found = [
        module.path
        for module in package
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]

    assert sorted(found) == sorted(BROAD)


def is_broad(node):
    names = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else {"Exception"}
    return bool(names & {"Exception", "BaseException"})


def test_only_config_reads_the_environment(package):
    found = {
        module.path
        for module in package
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb", "putenv")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    named = {module.path for module in package for node in ast.walk(module.tree) if imports_environment(node)}

    assert found | named <= ENVIRONMENT.keys()


def imports_environment(node):
    """`from os import environ` is the same thing."""
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in each.name for each in node.names)


def test_imports_stand_at_the_top(package):
    """Except heavy ones that not everybody needs, each with its reason."""
    found = Counter(
        (module.path, name)
        for module in package
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        for name in imported(node)
    )

    assert sorted(found.keys() - HEAVY.keys()) == []


def imported(node):
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_every_module_says_its_job(package):
    assert [module.path for module in package if not ast.get_docstring(module.tree)] == []


def test_every_package_used_is_a_declared_dependency(package, root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    declared = {re.split(r"[<>=;\s]", each)[0].replace("-", "_") for each in [*project["dependencies"], *extras]}
    declared.add("splintr" if "splintr_rs" in declared else "")
    used = {name.partition(".")[0] for module in package for node in ast.walk(module.tree) for name in imported(node)}

    assert sorted(used - set(sys.stdlib_module_names) - declared - {"antiphon"}) == []
