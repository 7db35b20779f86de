"""What lets many paths of a listing share one decision.

A rule treats all secrets alike that the index finds it for, unless a clause looks at the resource itself. Where only
the first clause does, and in the forms that grant tables compile to, it is tested here for each path, and the rules
that remain treat the path like any other they remain for.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from securecfg.policy.index import candidates, named_entities
from securecfg.policy.requests import ANYTHING, is_text, key_of
from securecfg.policy.schema import ROOT
from securecfg.policy.usage import usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.policy.cedar import Tree

# Takes the path of a secret and its segments.
Test: TypeAlias = "Callable[[str, list[str]], bool]"

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a rule treats the secrets that the index finds it for.

    Attributes:
        kind: `alike`: all alike. `tested`: those alike for which `test` is true, and it does not apply to others.
            `each`: each by itself.
        test: For `tested`.
    """

    kind: Literal["alike", "tested", "each"]
    test: Test | None = None


ALIKE: Final = Treatment("alike")
EACH: Final = Treatment("each")


def treatment(tree: Tree) -> Treatment:
    """Return how a rule treats secrets."""
    conditions = tree["conditions"]
    if not usage_of(conditions).resource:
        return ALIKE
    first, *rest = conditions
    if first["kind"] != "when" or usage_of(rest).resource:
        return EACH
    # Only where the scope names no resource does the index go by the first clause.
    if tree["resource"]["op"] == "All" and _is_only_keys(first["body"]):
        return ALIKE
    test = _test(first["body"])
    return EACH if test is None else Treatment("tested", test)


def _is_only_keys(expr: Tree) -> bool:
    """Whether an expression is true for exactly what the index finds by its keys."""
    match expr:
        case {"||": {"left": left, "right": right}}:
            return _is_only_keys(left) and _is_only_keys(right)
        case {"in": {"left": {"Var": "resource"}, "right": {"Value": {"__entity": _}}}}:
            return True
        case {"==": {"left": {"Var": "resource"}, "right": {"Value": {"__entity": {"type": kind}}}}}:
            return bool(kind == "Secret")
        case {"in": {"left": {"Var": "resource"}, "right": {"Set": elements}}}:
            return bool(named_entities(elements))
        case _:
            return False


def _test(expr: Tree) -> Test | None:  # noqa: PLR0911 - one case for each form
    """Return an expression over the resource as a function of a secret's path, or None where it has another form."""
    match expr:
        case {"||": {"left": left, "right": right}}:
            return _either(_test(left), _test(right))
        case {"&&": {"left": left, "right": right}}:
            return _both(_test(left), _test(right))
        case {"in": {"left": {"Var": "resource"}, "right": {"Value": {"__entity": {"type": kind, "id": name}}}}}:
            return _inside(kind, name)
        case {"==": {"left": {"Var": "resource"}, "right": {"Value": {"__entity": {"type": kind, "id": name}}}}}:
            return _is(kind, name)
        case {"in": {"left": {"Var": "resource"}, "right": {"Set": elements}}}:
            tests = [_inside(*entity) for entity in named_entities(elements)]
            return (lambda path, names: any(test(path, names) for test in tests)) if tests else None
        case {"is": {"left": {"Var": "resource"}, "entity_type": kind, **rest}} if not rest:
            is_secret = kind == "Secret"
            return lambda _path, _names: is_secret
        case {"hasTag": {"left": {"Var": "resource"}, "right": {"Value": str(tag)}}}:
            return lambda _path, names: tag in map(str, range(1, len(names)))
        case {"like": {"left": base, "pattern": pattern}}:
            text = _text(base)
            return None if text is None else _fits(text, pattern)
        case {"==": {"left": base, "right": {"Value": str(wanted)}}}:
            text = _text(base)
            return None if text is None else _equals(text, wanted)
        case _:
            return _depth_test(expr)


def _depth_test(expr: Tree) -> Test | None:
    ((operation, operands),) = expr.items()
    compare = _COMPARE.get(operation)
    match operands:
        case {"left": {".": {"left": {"Var": "resource"}, "attr": "depth"}}, "right": {"Value": int(depth)}} if compare:
            return lambda _path, names: compare(len(names), depth)
        case _:
            return None


def _either(left: Test | None, right: Test | None) -> Test | None:
    if left is None or right is None:
        return None
    return lambda path, names: left(path, names) or right(path, names)


def _both(left: Test | None, right: Test | None) -> Test | None:
    if left is None or right is None:
        return None
    return lambda path, names: left(path, names) and right(path, names)


def _inside(kind: str, name: str) -> Test:
    """Return the test whether a secret is an entity or lies in it."""
    if kind == "Folder":
        if name == ROOT:
            return lambda _path, _names: True
        prefix = f"{name}/"
        return lambda path, _names: path.startswith(prefix)
    return _is(kind, name)


def _is(kind: str, name: str) -> Test:
    """Return the test whether a secret is an entity."""
    own = name if kind == "Secret" else None
    return lambda path, _names: path == own


def _fits(text: Callable[[str, list[str]], str], pattern: Sequence[Tree | str]) -> Test:
    parts = (".*" if isinstance(part, str) else re.escape(part["Literal"]) for part in pattern)
    matches = re.compile("".join(parts), re.DOTALL).fullmatch
    return lambda path, names: matches(text(path, names)) is not None


def _equals(text: Callable[[str, list[str]], str], wanted: str) -> Test:
    return lambda path, names: text(path, names) == wanted


def _text(expr: Tree) -> Callable[[str, list[str]], str] | None:
    """Return the path, or the name of a folder on it, as a function of a path."""
    match expr:
        case {".": {"left": {"Var": "resource"}, "attr": "path"}}:
            return lambda path, _names: path
        case {"getTag": {"left": {"Var": "resource"}, "right": {"Value": str(tag)}}}:
            # Validation sees to it that `hasTag` was asked first.
            return lambda _path, names: names[int(tag) - 1]
        case _:
            return None


class Listing:
    """Finds the rules for one path after another, of one principal and action."""

    __slots__ = ("_folders", "_plain", "_secrets", "_shelves", "_treatment")

    def __init__(self, maps: Sequence[dict[str, list[int]]], treatment_of: Callable[[int], Treatment]) -> None:
        """Take the index's maps for the principal and action, and how rules treat secrets, by position."""
        self._treatment = treatment_of
        # What applies anywhere, then what applies in each folder: a folder adds to the one that it lies in.
        root = candidates(maps, (key_of("Folder", ROOT), "Secret", ANYTHING))
        self._shelves: dict[str, tuple[int, ...]] = {"": root}
        # Whether rules treat all secrets alike that they are found for.
        self._plain: dict[tuple[int, ...], bool] = {}
        # What applies to one secret, or in one folder and what lies in that.
        self._secrets: dict[str, list[int]] = {}
        self._folders: dict[str, list[int]] = {}
        named = {"Secret": self._secrets, "Folder": self._folders}
        for resources in maps:
            for key, positions in resources.items():
                kind, separator, name = key.partition("::")
                if separator and kind in named:
                    named[kind].setdefault(name, []).extend(positions)

    def rules_for(self, path: str) -> tuple[int, ...] | None:
        """Return the rules that might apply to a secret, such that secrets with the same rules get the same answer.

        None where the path has to be decided by itself: it is not a secret's, or a rule treats each by itself.
        """
        if not path or path[0] == "/" or path[-1] == "/" or "//" in path or not is_text(path):
            return None
        folder = path.rpartition("/")[0]
        shelf = self._shelves.get(folder)
        if shelf is None:
            shelf = self._shelve(folder)
        named = self._secrets.get(path)
        positions = shelf if named is None else tuple(sorted({*shelf, *named}))
        is_plain = self._plain.get(positions)
        if is_plain is None:
            is_plain = self._plain[positions] = all(self._treatment(each).kind == "alike" for each in positions)
        return positions if is_plain else self._tested(path, positions)

    def _shelve(self, folder: str) -> tuple[int, ...]:
        """Return the rules for any secret in a folder that no rule names; remember those of all folders on the way."""
        shelves, end = self._shelves, folder.rfind("/")
        while end >= 0 and folder[:end] not in shelves:
            end = folder.rfind("/", 0, end)
        shelf = shelves[folder[: max(end, 0)]]
        while end < len(folder):
            end = folder.find("/", end + 1)
            end = len(folder) if end < 0 else end
            inner = folder[:end]
            added = self._folders.get(inner)
            if added is not None:
                shelf = tuple(sorted({*shelf, *added}))
            shelves[inner] = shelf
        return shelf

    def _tested(self, path: str, positions: tuple[int, ...]) -> tuple[int, ...] | None:
        names: list[str] | None = None
        left: list[int] = []
        for position in positions:
            how = self._treatment(position)
            if how.kind == "each":
                return None
            if how.test is not None:
                names = path.split("/") if names is None else names
                if not how.test(path, names):
                    continue
            left.append(position)
        return tuple(left)
