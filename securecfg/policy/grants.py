"""Grant tables: who belongs to which role, and what a role may do where.

[roles.web]
members = ["svc:web"]

[[roles.web.grants]]
actions = ["read", "list"]
paths = ["payments/**", "db/main"]
when = { mfa = true, hours = "08:00-18:00" }
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from securecfg.policy.patterns import pattern_problem
from securecfg.policy.problems import Problems, did_you_mean
from securecfg.policy.requests import ADMIN_RULE
from securecfg.policy.schema import ACTIONS, ADMINISTRATIVE_ACTIONS, IMPERSONATE, SECRET_ACTIONS
from securecfg.policy.toml_reader import TableReader, load_toml
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.policy.conditions import Condition
    from securecfg.policy.places import Key

MAX_TABLE: Final = 1024 * 1024
MAX_NAME_BYTES: Final = 256
MAX_PATTERNS: Final = 200
MAX_WILDCARDS: Final = 16

_ROLE_KEYS: Final = ("description", "members", "grants")
_GRANT_KEYS: Final = ("id", "description", "actions", "paths", "as", "when", "unless", "forbid")


class Grant(NamedTuple):
    """One grant, well formed.

    Attributes:
        id: What decisions call it: given, or `ROLE#N`.
        role: The role's name, without `role:`.
        actions: What it is about, in the schema's order.
        paths: Path patterns, for actions on secrets.
        principals: `user:NAME`, `svc:NAME`, `role:NAME`, `user:*` or `svc:*`, for `impersonate`.
        forbids: Whether it forbids instead of permitting.
        when: What must hold.
        unless: What must not all hold; only where it forbids.
        line: Where it stands, from 1.
        column: From 1.
    """

    id: str
    role: str
    actions: tuple[str, ...]
    paths: tuple[str, ...]
    principals: tuple[str, ...]
    forbids: bool
    when: tuple[Condition, ...]
    unless: tuple[Condition, ...]
    line: int
    column: int


class Membership(NamedTuple):
    """`member` belongs to `role`, and where that is written."""

    member: str
    role: str
    line: int
    column: int


class GrantTable(NamedTuple):
    """One document, well formed."""

    memberships: tuple[Membership, ...]
    grants: tuple[Grant, ...]


def name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a principal or role, or None."""
    if not name:
        return "is empty"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode normal form NFC"
    if any(unicodedata.category(character)[0] in "CZ" or character in '*"\\' for character in name):
        return 'has a space, a control or invisible character, `*`, `"` or a backslash'
    return None


def parse_grants(document: str, text: str) -> GrantTable:
    """Read a grant table.

    Raises:
        Problems: Everything that is wrong with it.
    """
    content, places = load_toml(document, text, MAX_TABLE)
    reader = TableReader(document, text, places)
    memberships: list[Membership] = []
    grants: list[Grant] = []
    top = reader.table((), content, ("roles",))
    roles = top.get("roles", {})
    if not isinstance(roles, dict):
        reader.complain(("roles",), "`roles` is not a table")
        roles = {}
    for name, value in roles.items():
        key: Key = ("roles", name)
        problem = name_problem(name)
        if problem:
            reader.complain(key, f"the name of the role `{name}` {problem}")
            continue
        role = reader.table(key, value, _ROLE_KEYS)
        if "description" in role:
            reader.text((*key, "description"), role["description"])
        memberships += _read_members(reader, (*key, "members"), name, role.get("members", []))
        listed = role.get("grants", [])
        if not isinstance(listed, list):
            reader.complain((*key, "grants"), f"`grants` of the role `{name}` is not a list of tables", _GRANTS_HINT)
            continue
        if name == "admin" and listed:
            reader.complain((*key, "grants"), "the role `admin` needs no grants: it may do everything already")
        for index, grant in enumerate(listed):
            grants += _GrantReader(reader, (*key, "grants", index), name).read(grant)
    if reader.problems:
        raise Problems(sorted(reader.problems))
    return GrantTable(tuple(memberships), tuple(grants))


_GRANTS_HINT: Final = "write each as `[[roles.NAME.grants]]`"


def _read_members(reader: TableReader, key: Key, role: str, value: object) -> list[Membership]:
    found: list[Membership] = []
    for place, member in reader.texts(key, value):
        kind, _, name = member.partition(":")
        if kind not in {"user", "svc", "role"}:
            reader.complain(place, f"`{member}` is not a principal", "write `user:NAME`, `svc:NAME` or `role:NAME`")
            continue
        is_everyone = name == "*" and kind != "role"
        problem = None if is_everyone else name_problem(name)
        if problem:
            reader.complain(place, f"the name in `{member}` {problem}")
        elif is_everyone and role == "admin":
            reader.complain(place, f"`{member}` would make everyone an administrator")
        else:
            found.append(Membership(member, f"role:{role}", *reader.line_and_column(place)))
    return found


class _GrantReader:
    """Reads one grant."""

    def __init__(self, reader: TableReader, key: Key, role: str) -> None:
        self._reader = reader
        self._key = key
        self._role = role

    def read(self, value: object) -> list[Grant]:
        """Return the grant, or nothing where there was something to complain about."""
        before = len(self._reader.problems)
        given = self._reader.table(self._key, value, _GRANT_KEYS)
        actions = self._actions(given)
        forbids = given.get("forbid", False)
        if not isinstance(forbids, bool):
            self._reader.complain((*self._key, "forbid"), "`forbid` is neither `true` nor `false`")
        if "description" in given:
            self._reader.text((*self._key, "description"), given["description"])
        if "unless" in given and forbids is not True:
            message = "`unless` is only for a grant with `forbid = true`"
            self._reader.complain((*self._key, "unless"), message, "say in `when` what is needed")
        grant = Grant(
            id=self._id(given),
            role=self._role,
            actions=actions,
            paths=self._paths(given, actions),
            principals=self._principals(given, actions),
            forbids=forbids is True,
            when=self._conditions(given, "when"),
            unless=self._conditions(given, "unless"),
            line=self._reader.line_and_column(self._key)[0],
            column=self._reader.line_and_column(self._key)[1],
        )
        return [] if len(self._reader.problems) > before else [grant]

    def _id(self, given: Mapping[str, object]) -> str:
        if "id" not in given:
            return f"{self._role}#{int(self._key[-1]) + 1}"
        key = (*self._key, "id")
        rule = self._reader.text(key, given["id"])
        problem = id_problem(rule)
        if problem:
            self._reader.complain(key, problem)
        return rule

    def _actions(self, given: Mapping[str, object]) -> tuple[str, ...]:
        key = (*self._key, "actions")
        listed = self._reader.texts(key, given.get("actions", []))
        if not listed:
            self._reader.complain(key, "a grant needs `actions`")
        names: set[str] = set()
        for place, action in listed:
            if action == "*":
                names.update(SECRET_ACTIONS)
            elif action in ACTIONS:
                names.add(action)
            else:
                self._reader.complain(place, f"unknown action `{action}`", did_you_mean(action, ACTIONS))
        kinds = {_kind_of(action) for action in names}
        if len(kinds) > 1:
            message = "actions on secrets, administration and `impersonate` do not go into one grant"
            self._reader.complain(key, message, "write a grant for each kind")
        return tuple(action for action in ACTIONS if action in names)

    def _paths(self, given: Mapping[str, object], actions: tuple[str, ...]) -> tuple[str, ...]:
        key = (*self._key, "paths")
        if any(_kind_of(action) != "secret" for action in actions):
            if "paths" in given:
                message = f"`{actions[-1]}` takes no `paths`"
                self._reader.complain(key, message, "administration is of the whole vault")
            return ()
        listed = self._reader.texts(key, given.get("paths", []))
        if not listed:
            self._reader.complain(key, "a grant needs `paths`", "`**` is everything")
        for place, pattern in listed:
            problem = pattern_problem(pattern)
            if problem:
                self._reader.complain(place, f"the path `{pattern}` {problem[0]}", problem[1])
        wildcards = sum("*" in pattern.removesuffix("/**") for _, pattern in listed)
        if len(listed) > MAX_PATTERNS or wildcards > MAX_WILDCARDS:
            message = f"more than {MAX_PATTERNS} paths, or more than {MAX_WILDCARDS} with a `*` before their end"
            self._reader.complain(key, message, "use several grants")
        return tuple(pattern for _, pattern in listed)

    def _principals(self, given: Mapping[str, object], actions: tuple[str, ...]) -> tuple[str, ...]:
        key = (*self._key, "as")
        if actions != (IMPERSONATE,):
            if "as" in given:
                self._reader.complain(key, "`as` is only for a grant of `impersonate`")
            return ()
        listed = self._reader.texts(key, given.get("as", []))
        if not listed:
            self._reader.complain(key, "a grant of `impersonate` needs `as`", 'for instance `as = ["user:*"]`')
        for place, principal in listed:
            kind, _, name = principal.partition(":")
            known = kind in {"user", "svc", "role"} and not name_problem(name)
            if not known and principal not in {"user:*", "svc:*"}:
                hint = "write `user:NAME`, `svc:NAME`, `role:NAME`, `user:*` or `svc:*`"
                self._reader.complain(place, f"`{principal}` is not a principal", hint)
        if len(listed) > MAX_PATTERNS:
            self._reader.complain(key, f"more than {MAX_PATTERNS} principals", "use a role")
        return tuple(principal for _, principal in listed)

    def _conditions(self, given: Mapping[str, object], name: str) -> tuple[Condition, ...]:
        if name not in given:
            return ()
        from securecfg.policy.conditions import CONDITIONS, ConditionError, parse_condition

        key = (*self._key, name)
        table = self._reader.table(key, given[name], CONDITIONS)
        found: list[Condition] = []
        for condition in CONDITIONS:
            if condition in table:
                try:
                    found.append(parse_condition(condition, table[condition]))
                except ConditionError as error:
                    self._reader.complain((*key, condition), error.message, error.hint)
        return tuple(found)


def _kind_of(action: str) -> str:
    if action in SECRET_ACTIONS:
        return "secret"
    return "administration" if action in ADMINISTRATIVE_ACTIONS else "impersonation"


def id_problem(rule: str) -> str | None:
    """Return what is wrong with the id of a rule, or None."""
    problem = name_problem(rule)
    if problem:
        return f"the id of a rule {problem}"
    if rule == ADMIN_RULE:
        return f"the id `{ADMIN_RULE}` is that of the built-in rule"
    return None
