"""A folder with a stand-in for `op` or `bw`, and what the tests say to it."""

from __future__ import annotations

import json
import os
import sys
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
        self._state: Json = {"variable": variable, "secret": SECRET, "items": [], "folders": [], "collections": []}
        self._state |= {"vault": OP_VAULT, "vault id": OP_VAULT_ID, "account": ACCOUNT}
        self._state["errors"] = OP_ERRORS if name == "op" else BW_ERRORS
        self.hold()
        self.fail(None)

    def hold(self, *items: Json, **lists: list[Json]) -> None:
        """Hold these items, and folders and collections."""
        self._state |= {"items": list(items), **lists}
        self._save("state.json", self._state)

    def add(self, item: Json, key: str) -> None:
        """Hold an item besides, instead of the one that has the same title."""
        self.hold(*[held for held in self._state["items"] if held[key] != item[key]], item)

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(self._state["items"])

    def fail(self, always: Mapping[str, Any] | None, *following: Mapping[str, Any]) -> None:
        """Let these go wrong, one in each of the next runs, and then always this, if anything."""
        self._save("faults.json", {"always": always, "next": following})

    def runs(self) -> list[Run]:
        """Return how it was run so far."""
        with suppress(FileNotFoundError):
            lines = (self._folder / "runs").read_text(encoding="utf-8").splitlines()
            return [Run(**json.loads(line)) for line in lines]
        return []

    def _save(self, name: str, content: object) -> None:
        new = self._folder / f"{name}.new"
        new.write_text(json.dumps(content), encoding="utf-8")
        os.replace(new, self._folder / name)  # noqa: PTH105 - runs may read it


def put_op(stand_in: StandIn, path: str, content: Content) -> str:
    """Make an item as somebody does in the app, and return its version."""
    _verify_holds(content)
    if not isinstance(content, str) and not all(content.values()):
        message = "an empty field of 1Password is none"
        raise Unsupported(message)
    if isinstance(content, str):
        fields = [{"id": "password", "type": "CONCEALED", "purpose": "PASSWORD", "label": "password", "value": content}]
    else:
        fields = [
            {"id": f"field{number}", "type": "CONCEALED", "label": name, "value": part}
            for number, (name, part) in enumerate(content.items())
        ]
    number = stand_in.count + 1
    version = len(stand_in.runs()) + number
    stand_in.add(op_item(f"{number:026}", path, fields, version=version), "title")
    return str(version)


def put_bw(stand_in: StandIn, path: str, content: Content) -> str:
    """Make an item as somebody does in the app, and return its version."""
    number = stand_in.count + 1
    changed = f"2026-01-15T08:09:10.{number:03}Z"
    item = bw_item(f"1b0d1f0a-0000-4000-8000-{number:012}", path, revisionDate=changed)
    _verify_holds(content)
    if isinstance(content, str):
        item |= {"notes": content, "secureNote": {"type": 0}}
    else:
        login = {"uris": [], "fido2Credentials": [], **{n: p for n, p in content.items() if n == "password"}}
        others = [bw_field(name, str(part), 1) for name, part in content.items() if name != "password"]
        item |= {"type": 1, "login": login, "fields": others}
    stand_in.add(item, "name")
    return changed


def _verify_holds(content: Content) -> None:
    parts = [content] if isinstance(content, str | bytes) else list(content.values())
    if any(isinstance(part, bytes) for part in parts):
        message = "a password manager holds no bytes"
        raise Unsupported(message)
    if not isinstance(content, str) and len(content) == 1 and content.keys() <= {"password", "notes"}:
        message = "a password alone is a text"
        raise Unsupported(message)
