"""Trees of settings as typed structs: built from plain values with errors that name the path, described, masked.

Knows no setting. `config` declares them; each field is `Annotated` with a `Meta` that describes it, and `extra` marks
what must not be shown (`SECRET`) and what cannot be set (`DERIVED`).
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

PREFIX: Final = "ANTIPHON_"
MASK: Final = "********"
SECRET: Final = {"secret": True}
DERIVED: Final = {"derived": True}


class Setting(Struct, frozen=True, kw_only=True):
    """One line of the settings' reference. `*` in a path stands for a name."""

    path: str
    type: str
    default: Any
    description: str
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.path.replace(".", "__").replace("*", "NAME").upper()


def build(kind: Any, value: Any, path: str, *, problems: list[str]) -> Any:
    """`value` as `kind`. What does not fit is added to `problems` by its path, and a default stands in for it."""
    struct, part = _struct(kind), _dict_of(kind)
    if struct is None and part is None:
        return _leaf(kind, value, path, problems=problems)
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table, got {_shown(value)}.")
        return None
    if struct is None:
        return {key: build(part, each, f"{path}.{key}", problems=problems) for key, each in value.items()}
    fields, built = _fields(struct), {}
    for key, each in value.items():
        at = f"{path}.{key}".lstrip(".")
        if key not in fields:
            problems.append(f"{at}: there is no such setting.{suggestion(key, fields)}")
            continue
        before = len(problems)
        made = build(fields[key], each, at, problems=problems)
        if len(problems) == before:
            built[key] = made
    return struct(**built)


def overlay(root: Any, tree: dict[str, Any], path: list[str], *, value: Any, source: str) -> list[str]:
    """Puts `value` at `path` of the plain `tree`, read as what that setting is. Returns what is wrong with it."""
    kind = root
    for part in path:
        struct = _struct(kind)
        if struct is not None and part in _fields(struct):
            kind = _fields(struct)[part]
        elif struct is None and _dict_of(kind) is not None:
            kind = _dict_of(kind)
        else:
            known = [each.variable for each in settings_of(root)] if source.startswith(PREFIX) else _paths(root)
            return [f"{source}: there is no such setting.{suggestion(source, known)}"]
    if isinstance(value, str):
        try:
            value = _read_value(kind, value)
        except (ValueError, msgspec.ValidationError) as error:
            secret = _extra(kind).get("secret")
            return [f"{source}: {_plain(error)}{'' if secret else f', got {_shown(value)}'}."]
    for part in path[:-1]:
        inner = tree.get(part)
        tree[part] = tree = inner if isinstance(inner, dict) else {}
    tree[path[-1]] = value
    return []


def settings_of(root: Any, path: str = "") -> Iterator[Setting]:
    """Every setting below `root`, in the order of declaration."""
    for field in msgspec.structs.fields(root):
        at = f"{path}.{field.name}".lstrip(".")
        struct, part = _struct(field.type), _dict_of(field.type)
        if _extra(field.type).get("derived"):
            continue
        if struct is not None:
            yield from settings_of(struct, at)
        elif _struct(part) is not None:
            yield from settings_of(_struct(part), f"{at}.*")
        else:
            meta = _meta(field.type)
            yield Setting(
                path=at,
                type=_type_name(field.type),
                default=field.default if field.default is not NODEFAULT else field.default_factory(),
                description=(meta.description if meta else None) or "",
                secret=bool(_extra(field.type).get("secret")),
            )


def masked(value: Any, kind: Any = None) -> Any:
    """`value` as plain data without its secrets; a password inside an address is one as well."""
    if _extra(kind).get("secret"):
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else (MASK if value else "")
    if isinstance(value, Struct):
        fields = msgspec.structs.fields(type(value))
        return {field.name: masked(getattr(value, field.name), field.type) for field in fields}
    if isinstance(value, dict):
        return {key: masked(each) for key, each in value.items()}
    if isinstance(value, str) and "://" in value:
        return re.sub(r"([?&]password=)[^&]*", rf"\1{MASK}", re.sub(r"//\S*@", f"//{MASK}@", value))
    return value


def check_templates(config: Struct, fields: Mapping[str, Iterable[str]]) -> None:
    """Raises `ValueError` for a template of `config` with a field that is not among its own."""
    for template, known in fields.items():
        try:
            getattr(config, template).format(**dict.fromkeys(known, ""))
        except (LookupError, ValueError, AttributeError) as error:
            names = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"{template}: the fields of this template are {names}") from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """What the writer of `name` may have meant: the nearest known name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There are: {', '.join(names)}." if len(names) <= 20 else ""


def read(path: Path, problems: list[str]) -> dict[str, Any]:
    """The tree that a TOML or JSON file holds; what is wrong with it is added to `problems`."""
    try:
        text = path.read_bytes()
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text.decode())
    except OSError as error:
        problems.append(f"{path}: {error.strerror}.")
    except ValueError as error:  # TOMLDecodeError, JSONDecodeError, UnicodeDecodeError
        problems.append(f"{path}: {error}.")
    else:
        if isinstance(tree, dict):
            return tree
        problems.append(f"{path}: expected an object.")
    return {}


def with_variables(value: Any, environ: Mapping[str, str], problems: list[str], *, path: str = "") -> Any:
    """The same tree with every `env:NAME` replaced by that variable's value."""
    if isinstance(value, dict):
        return {
            key: with_variables(part, environ, problems, path=f"{path}.{key}".lstrip("."))
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [with_variables(part, environ, problems, path=f"{path}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, str) and value.startswith("env:"):
        name = value.removeprefix("env:").strip()
        if not environ.get(name):
            problems.append(f"{path}: the environment variable {name} is not set.")
        return environ.get(name, "")
    return value


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Our variables. Kubernetes sets look-alikes for every service of the cluster (`ANTIPHON_PORT=tcp://...`)."""
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    ours.pop(PREFIX + "CONFIG", None)
    link = re.compile(rf"{PREFIX}(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+)$")
    return {name: value for name, value in ours.items() if not link.match(name) and "://" not in value[:6]}


def _leaf(kind: Any, value: Any, path: str, *, problems: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        secret = _extra(kind).get("secret")
        problems.append(f"{path}: {_plain(error)}{'' if secret else f', got {_shown(value)}'}.")
        return None


def _read_value(kind: Any, value: str) -> Any:
    if _struct(kind) is not None or _dict_of(kind) is not None:
        return json.loads(value)
    if kind is Any:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return msgspec.convert(value, kind, strict=False)


def _alternatives(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for each in get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind


def _struct(kind: Any) -> Any:
    """The struct that a field holds, if it does."""
    return next((each for each in _alternatives(kind) if isinstance(each, type) and issubclass(each, Struct)), None)


def _dict_of(kind: Any) -> Any:
    """The type of a field's values if it holds a dict."""
    return next((get_args(each)[1] for each in _alternatives(kind) if get_origin(each) is dict), None)


def _fields(struct: Any) -> dict[str, Any]:
    fields = msgspec.structs.fields(struct)
    return {each.name: each.type for each in fields if not _extra(each.type).get("derived")}


def _paths(root: Any) -> list[str]:
    return [f"--{each.path.replace('_', '-')}" for each in settings_of(root)]


def _meta(kind: Any) -> Meta | None:
    return next((each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta)), None)


def _extra(kind: Any) -> dict[str, Any]:
    meta = _meta(kind)
    return (meta.extra or {}) if meta else {}


def _type_name(kind: Any) -> str:
    """A type as people write it: `int`, `"live" | "record"`, `dict[str, str]`, `float | null`."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is Literal:
        return " | ".join(json.dumps(part) for part in parts)
    if origin in (Union, UnionType):
        return " | ".join(_type_name(part) for part in parts)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_type_name(part) for part in parts)}]"
    return "null" if kind is type(None) else str(getattr(kind, "__name__", kind))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(error: Exception) -> str:
    if not isinstance(error, msgspec.ValidationError):
        return "expected JSON"
    text = str(error).replace("`", "").partition(" - at ")[0]
    return text[:1].lower() + text[1:].partition(", got ")[0]
