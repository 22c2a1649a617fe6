"""Named collections: one per family drives tests, command line and tables."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from study.errors import UserError

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to add to a complaint of an unknown name.

    >>> did_you_mean("Adma", ["SGD", "Adam"])
    "; did you mean 'Adam'?"
    >>> did_you_mean("x", ["SGD", "Adam"])
    '; known: SGD, Adam'
    """
    known = list(known)
    lowered = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    if near:  # letters out of order are the likeliest slip
        slips = [other for other in near if sorted(other) == sorted(name.lower())]
        return f"; did you mean {lowered[(slips or near)[0]]!r}?"
    return f"; known: {', '.join(known)}"


class Catalogue(Mapping[str, Entry], Generic[Entry]):
    """Entries by name, in the order in which they were registered.

    Look-up ignores case when that leaves one name; an unknown name is a UserError that
    suggests the nearest, and a name taken twice is refused.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, entry: Registered) -> Registered:
        """Class decorator: adds the class under its own name."""
        self.add(entry.__name__, entry)  # type: ignore[attr-defined, arg-type]
        return entry

    def add(self, name: str, entry: Entry) -> None:
        """Adds an entry under a name that must be free."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> Entry:
        if isinstance(name, str) and name in self._entries:
            return self._entries[name]
        same = [known for known in self._entries if known.lower() == str(name).lower()]
        if len(same) == 1:
            return self._entries[same[0]]
        hint = did_you_mean(str(name), self._entries)
        raise UserError(f"unknown {self.kind} {str(name)!r}{hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def parse(self, text: str, construct: Callable[[Any, dict[str, Any]], Any]) -> Any:
        """The entry that a string such as `Adam` or `Adam(b1=0.0)` names.

        Only names and literal arguments are read; nothing is evaluated.

        Args:
            text: class name, optionally with keyword arguments.
            construct: called with the class and the arguments.
        """
        complaint = (
            f"cannot read {self.kind} {text[:60]!r}; write Name or Name(field=value)"
        )
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise UserError(complaint) from None
        if isinstance(node, ast.Name):
            return construct(self[node.id], {})
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            raise UserError(complaint)
        arguments = {}
        for keyword in node.keywords:
            try:
                arguments[keyword.arg] = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                raise UserError(complaint) from None
        if node.args or None in arguments:
            raise UserError(complaint)
        return construct(self[node.func.id], arguments)
