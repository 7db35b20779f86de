"""A folder with a stand-in for `op` or `bw`, and what the tests say to it."""

from __future__ import annotations

import json
import marshal
import os
import sys
from ast import literal_eval
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.errors import Unsupported
from tests.backends.passwords.recorded import BW_ERRORS, OP_ERRORS, OP_VAULT, OP_VAULT_ID, bw_field, bw_item, op_item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.backends import Content
    from tests.backends.passwords.recorded import Json

SECRET = "canary-of-a-token-4711"
ACCOUNT = "example.1password.com"
_SOURCE = Path(__file__).with_name("program.py")


class Run(NamedTuple):
    """How a stand-in was run.

    Attributes:
        arguments: As they came.
        variables: All of its environment.
        folder: Where.
        input: What there was to read.
    """

    arguments: list[str]
    variables: dict[str, str]
    folder: str
    input: str


class StandIn:
    """A stand-in for a program.

    Args:
        folder: Where it is put.
        name: `op` or `bw`.
        variable: Which variable holds the secret that it wants.
    """

    def __init__(self, folder: Path, name: str, variable: str) -> None:
        """Put it there with an empty store."""
        self.path = folder / name
        self._folder = folder
        self.path.write_text(f"#!{sys.executable} -ISE\n{_SOURCE.read_text(encoding='utf-8')}", encoding="utf-8")
        self.path.chmod(0o700)
        self._items: list[Json] = []
        self._lists: dict[str, list[Json]] = {"folders": [], "collections": []}
        self._state: Json = {"variable": variable, "secret": SECRET, "account": ACCOUNT}
        self._state |= {"vault": OP_VAULT, "vault id": OP_VAULT_ID, "errors": OP_ERRORS}
        if name == "bw":
            self._state["errors"] = {what: bw_failure(said) for what, said in BW_ERRORS.items()}
        self.hold()
        self.fail(None)

    def hold(self, *items: Json, **lists: list[Json]) -> None:
        """Hold these items, and folders and collections."""
        self._items = list(items)
        self._lists |= lists
        printed = self._printed_by_op() if self.path.name == "op" else self._printed_by_bw()
        self._save("state", {**self._state, "printed": printed})

    def add(self, item: Json, key: str) -> None:
        """Hold an item besides, instead of the one that has the same title."""
        self.hold(*[held for held in self._items if held[key] != item[key]], item)

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(self._items)

    def fail(self, always: Mapping[str, Any] | None, *following: Mapping[str, Any]) -> None:
        """Let these go wrong, one in each of the next runs, and then always this, if anything."""
        self._save("faults", (always, list(following)))

    def runs(self) -> list[Run]:
        """Return how it was run so far."""
        with suppress(FileNotFoundError):
            lines = (self._folder / "runs").read_text(encoding="utf-8").splitlines()
            return [Run(*literal_eval(line)) for line in lines]
        return []

    def _printed_by_op(self) -> Json:
        hidden = ("fields", "sections")
        shown = [{name: part for name, part in item.items() if name not in hidden} for item in self._items]
        items = {item["id"]: json.dumps(item, indent=2) for item in self._items}
        return {"item list": json.dumps(shown, indent=2), "item get": items}

    def _printed_by_bw(self) -> Json:
        lists = {f"list {what}": held for what, held in {**self._lists, "items": self._items}.items()}
        title = {"noColor": False, "object": "message", "title": "Syncing complete.", "message": None}
        answers: Json = {"sync": title, **{what: {"object": "list", "data": held} for what, held in lists.items()}}
        return {what: json.dumps({"success": True, "data": data}) for what, data in answers.items()}

    def _save(self, name: str, content: Any) -> None:  # noqa: ANN401 - what marshal takes
        new = self._folder / f"{name}.new"
        new.write_bytes(marshal.dumps(content))
        os.replace(new, self._folder / name)  # noqa: PTH105 - runs may read it


def bw_failure(message: object) -> str:
    """Return what `bw` prints where it fails."""
    return json.dumps({"success": False, "message": message})


def put_op(stand_in: StandIn, path: str, content: Content) -> str:
    """Make an item as somebody does in the app, and return its version."""
    parts = _parts(content)
    if isinstance(parts, str):
        fields = [{"id": "password", "type": "CONCEALED", "purpose": "PASSWORD", "label": "password", "value": parts}]
    elif not all(parts.values()):
        message = "an empty field of 1Password is none"
        raise Unsupported(message)
    else:
        fields = [{"id": name, "type": "CONCEALED", "label": name, "value": part} for name, part in parts.items()]
    number = stand_in.count + 1
    version = len(stand_in.runs()) + number
    stand_in.add(op_item(f"{number:026}", path, fields, version=version), "title")
    return str(version)


def put_bw(stand_in: StandIn, path: str, content: Content) -> str:
    """Make an item as somebody does in the app, and return its version."""
    parts = _parts(content)
    number = stand_in.count + 1
    changed = f"2026-01-15T08:09:10.{number:03}Z"
    item = bw_item(f"1b0d1f0a-0000-4000-8000-{number:012}", path, revisionDate=changed)
    if isinstance(parts, str):
        item |= {"notes": parts, "secureNote": {"type": 0}}
    else:
        login: Json = {"uris": [], "fido2Credentials": []}
        login |= {name: part for name, part in parts.items() if name == "password"}
        others = [bw_field(name, part, 1) for name, part in parts.items() if name != "password"]
        item |= {"type": 1, "login": login, "fields": others}
    stand_in.add(item, "name")
    return changed


def _parts(content: Content) -> str | dict[str, str]:
    """Return a text or fields that a password manager holds.

    Raises:
        Unsupported: It holds no such.
    """
    if isinstance(content, str):
        return content
    parts = {} if isinstance(content, bytes) else {n: part for n, part in content.items() if isinstance(part, str)}
    if len(parts) != len(content) or (len(parts) == 1 and parts.keys() <= {"password", "notes"}):
        message = "it holds no bytes, and a password alone is a text"
        raise Unsupported(message)
    return parts
