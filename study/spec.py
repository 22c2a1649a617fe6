"""Specs: frozen dataclasses that print, compare, hash, and survive a file.

A spec's string is its class name with the fields that differ from their defaults,
`Adam(b1=0.0)`. That one string is what the command line takes, what figures show and
what the axes of stored arrays carry. Its JSON form holds every field, so that a changed
default changes the digest. Nothing here imports jax.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import types
import typing
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from study.catalogue import Catalogue, did_you_mean
from study.errors import UserError

SpecType = TypeVar("SpecType", bound="Spec")


@dataclasses.dataclass(frozen=True)
class Spec:
    """Base of every spec. Fields are numbers, strings, tuples or specs."""

    catalogue: ClassVar[Catalogue[Any] | None] = None  # of the family, if it has one

    def __post_init__(self) -> None:
        """Refuses values of the wrong type, wherever they come from."""
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            where = f"{type(self).__name__}.{field.name}"
            value = check(getattr(self, field.name), hints[field.name], where)
            object.__setattr__(self, field.name, value)

    def __str__(self) -> str:
        """The class name with the fields that differ from their defaults."""
        inside = ", ".join(f"{name}={value!r}" for name, value in self.changed.items())
        return type(self).__name__ + (f"({inside})" if inside else "")

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        values = {f.name: (getattr(self, f.name), f) for f in dataclasses.fields(self)}
        return {n: value for n, (value, f) in values.items() if value != f.default}

    def refuse(self, field: str, wanted: str) -> None:
        """Raises a UserError that names the field, its value and what is wanted."""
        where = f"{type(self).__name__}.{field}"
        raise UserError(f"{where} = {getattr(self, field)!r}: must be {wanted}")


def check(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` as `hint` wants it: an int becomes a float, a list a tuple.

    Raises:
        UserError: the value cannot be what the hint says; names `where`.
    """
    origin = get_origin(hint)
    if origin is typing.Annotated:
        return check(value, get_args(hint)[0], where)
    if origin is Literal and value in get_args(hint):
        return value
    if origin in (Union, types.UnionType):
        for option in get_args(hint):
            try:
                return check(value, option, where)
            except UserError:
                continue
    elif origin is tuple and isinstance(value, tuple | list):
        return tuple(check(item, get_args(hint)[0], where) for item in value)
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # more digits than a float has
            return float(value)
    elif isinstance(value, bool) and hint is not bool:
        pass  # True is no number here
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise UserError(f"{where} = {value!r}: must be {name}")


def encode(value: Any) -> Any:
    """A spec as JSON values, every field written out."""
    if isinstance(value, Spec):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: encode(getattr(value, name)) for name in names}
        return {"class": type(value).__name__} | fields
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(data: Any, kind: type[SpecType], where: str = "spec") -> SpecType:
    """The spec of family or class `kind` that `encode` wrote.

    Raises:
        UserError: unknown class or field, missing field, or wrong type.
    """
    if not isinstance(data, dict) or "class" not in data:
        raise UserError(f"{where}: expected a mapping that names its class")
    chosen = kind.catalogue[data["class"]] if kind.catalogue is not None else kind
    hints, given = typing.get_type_hints(chosen), dict(data)
    if given.pop("class") != chosen.__name__:
        raise UserError(f"{where}: holds a {data['class']}, not a {chosen.__name__}")
    names = [field.name for field in dataclasses.fields(chosen)]
    _refuse_unknown(given, names, chosen.__name__)
    if missing := [name for name in names if name not in given]:
        raise UserError(f"{where}: {chosen.__name__} lacks {', '.join(missing)}")
    values = {n: _decode_field(v, hints[n], f"{where}.{n}") for n, v in given.items()}
    return chosen(**values)


def construct(kind: type[SpecType], arguments: dict[str, Any]) -> SpecType:
    """`kind(**arguments)`, where a misspelt field is the user's mistake."""
    _refuse_unknown(arguments, [f.name for f in dataclasses.fields(kind)], kind.__name__)
    return kind(**arguments)


def digest(spec: Spec) -> str:
    """Twelve hexadecimal digits that stand for every field of the spec."""
    text = json.dumps(encode(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(stored: Any, wanted: Any, where: str = "") -> list[str]:
    """The fields in which two encoded specs differ, as `field: stored, not wanted`."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = sorted(stored.keys() | wanted.keys())
        pairs = ((n, stored.get(n), wanted.get(n)) for n in names)
        return [
            line
            for name, old, new in pairs
            for line in differences(old, new, f"{where}.{name}" if where else name)
        ]
    if stored == wanted:
        return []
    return [f"{where}: {_brief(stored)}, not {_brief(wanted)}"]


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_unknown(given: Any, names: list[str], owner: str) -> None:
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"{owner} has no field {name!r}{hint}")


def _decode_field(value: Any, hint: Any, where: str) -> Any:
    if get_origin(hint) is typing.Annotated:
        return _decode_field(value, get_args(hint)[0], where)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_decode_field(item, get_args(hint)[0], where) for item in value)
    if isinstance(hint, type) and issubclass(hint, Spec):
        return decode(value, hint, where)
    return value  # its class checks the type
