"""Trees of settings: built, overlaid, described, masked, whatever the settings are."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from antiphon.settings import DERIVED, MASK, SECRET, build, masked, overlay, settings_of, suggestion


class Leaf(Struct, frozen=True, kw_only=True):
    size: Annotated[int | None, Meta(description="A size.")] = None
    kind: Annotated[Literal["a", "b"], Meta(description="A kind.")] = "a"


class Tree(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="A name.")] = "tree"
    secret: Annotated[str, Meta(description="A secret.", extra=SECRET)] = ""
    found: Annotated[str, Meta(description="Set by nobody.", extra=DERIVED)] = ""
    leaf: Annotated[Leaf, Meta(description="One leaf.")] = Leaf()
    leaves: Annotated[dict[str, Leaf], Meta(description="Leaves by name.")] = field(default_factory=dict)
    any: Annotated[dict[str, Any], Meta(description="Anything.")] = field(default_factory=dict)


def built(value: Any) -> tuple[Any, list[str]]:
    problems: list[str] = []
    return build(Tree, value, "", problems=problems), problems


def test_plain_values_become_the_tree() -> None:
    tree, problems = built({"name": "x", "leaf": {"size": 3}, "leaves": {"l": {"kind": "b"}}, "any": {"a": [1]}})
    assert problems == []
    assert tree == Tree(name="x", leaf=Leaf(size=3), leaves={"l": Leaf(kind="b")}, any={"a": [1]})


def test_what_does_not_fit_is_told_by_path_and_replaced_by_its_default() -> None:
    tree, problems = built({"name": 3, "leaves": {"l": {"size": "x", "kynd": "b"}}, "leaf": [], "found": "x"})
    assert problems == [
        "name: expected str, got 3.",
        "leaves.l.size: expected int | null, got 'x'.",
        "leaves.l.kynd: there is no such setting. Did you mean 'kind'?",
        "leaf: expected a table, got [].",
        "found: there is no such setting. There are: any, leaf, leaves, name, secret.",
    ]
    assert (tree.name, tree.leaf) == ("tree", Leaf())


def test_an_overlay_reads_text_as_what_the_setting_is() -> None:
    plain: dict[str, Any] = {"leaf": {"kind": "b"}}
    assert overlay(Tree, plain, ["leaf", "size"], value="3", source="X") == []
    assert overlay(Tree, plain, ["leaves", "l", "size"], value="null", source="X") == []
    assert overlay(Tree, plain, ["any", "deep"], value="[1]", source="X") == []
    assert overlay(Tree, plain, ["any", "text"], value="[1", source="X") == []
    assert overlay(Tree, plain, ["leaves", "m"], value='{"size": 1}', source="X") == []
    assert plain == {
        "leaf": {"kind": "b", "size": 3},
        "leaves": {"l": {"size": None}, "m": {"size": 1}},
        "any": {"deep": [1], "text": "[1"},
    }


def test_a_secret_is_never_repeated() -> None:
    assert "42" not in built({"secret": 42})[1][0]
    assert masked(Tree(secret="s3cret"))["secret"] == MASK
    assert masked(Tree())["secret"] == ""


def test_every_setting_is_listed_by_path() -> None:
    found = {each.path: each for each in settings_of(Tree)}
    assert list(found) == ["name", "secret", "leaf.size", "leaf.kind", "leaves.*.size", "leaves.*.kind", "any"]
    assert (found["leaf.size"].type, found["leaf.kind"].type) == ("int | null", '"a" | "b"')
    assert found["any"].type == "dict[str, Any]"
    assert found["leaves.*.size"].variable == "ANTIPHON_LEAVES__NAME__SIZE"


def test_a_suggestion_is_the_nearest_name_or_all_of_a_few() -> None:
    assert suggestion("nmae", ["name", "size"]) == " Did you mean 'name'?"
    assert suggestion("zzz", ["name", "size"]) == " There are: name, size."
    assert suggestion("zzz", [f"n{index}" for index in range(50)]) == ""
