"""Make the frozen vaults: `python -m tests.decoder.vaults.generate`.

They hold the format still: whatever opens them today must open them for ever. So they are made anew only where the
format changes on purpose, before it is published; what a test finds wrong with them is a fault of the code.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securecfg import Secret, Vault
from securecfg.keys import PassphraseProvider, RecoveryProvider, generate_recovery_code
from securecfg.policy import default_documents
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.slots import Slots
from tests.decoder.agreement import assert_agrees
from tests.decoder.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.decoder.decoder import Content, Contents
    from tests.decoder.decoder import Secret as Decoded

FOLDER = Path(__file__).parent
PASSPHRASE = "correct horse battery staple \u00e9"
SHOWN_AT_MOST = 1_000
# So many paths of this length do not fit into the record of their batch, which then has parts.
PARTED, LONG = 20, "x" * 500


def fill_every_change(vault: Vault) -> dict[str, str]:
    """Make every kind of value and change, with every kind of slot that needs no other program."""
    code = generate_recovery_code().reveal()
    slots = Slots(vault.authority)
    slots.add(PassphraseProvider(Secret(PASSPHRASE)), label="by heart", principals=["user:alice"])
    slots.add(RecoveryProvider(Secret(code)), label="in the safe")
    vault.administration.apply_policy(default_documents("shop", "user:alice"))
    vault.administration.add_member("admin", "user:bob")
    vault.write("text", "gr\u00fc\u00df\x00 \U0001f511", metadata={"owner": "pay", "\u00e4": "\u2028"})
    vault.write("bytes", bytes(range(256)), ttl=timedelta(days=36_500))
    vault.write("fields", {"user": "u", "password": "\u00e9", "key": b"\xff\x00"})
    vault.write("conf", b"a: 1\n", content_type="application/yaml")
    for number in range(1, 6):
        vault.write("app/key", str(number))
    vault.label("app/key", "canary", 2)
    vault.delete("app/key", 3)
    vault.destroy("app/key", 1)
    vault.rollback("app/key", to=2)
    vault.delete("app/key", 5)
    vault.undelete("app/key", 5)
    vault.move("app/key", "shop/key")
    vault.write("gone", "x")
    vault.delete("gone")
    vault.read("text")
    rotate_signing_key(vault.authority)
    vault.write("text", "after the hand-over")
    return {"passphrase": PASSPHRASE, "recovery_code": code}


def fill_segments(vault: Vault) -> dict[str, str]:
    """Make segments with changes on top, older pages of a history, a record in parts and a chunked value."""
    with vault.batch() as batch:
        for number in range(PARTED):
            batch.write(f"batch/{number:02}/{LONG}", str(number))
    with vault.batch() as batch:
        for number in range(66):
            batch.write("often", str(number))
    vault.write("chunked", bytes(number % 251 for number in range(65_537)))
    compact(vault.opened)
    vault.delete("often", 5)
    vault.move(f"batch/07/{LONG}", "moved")
    return {}


VAULTS: dict[str, Callable[[Vault], dict[str, str]]] = {
    "every-change": fill_every_change,
    "segments": fill_segments,
}


def describe(contents: Contents) -> dict[str, Any]:
    """Return what must be found in a vault for ever, as JSON."""
    return {
        "vault_id": contents.vault_id.hex(),
        "checkpoint": {"size": contents.checkpoint.size, "root": contents.checkpoint.root.hex()},
        "epoch_keys": [key.hex() for key in contents.epoch_keys],
        "slots": [[slot.kind, slot.label, list(slot.principals)] for slot in contents.slots],
        "secrets": {path: _describe_secret(secret) for path, secret in contents.secrets.items()},
        "documents": {path: _describe_secret(secret) for path, secret in contents.documents.items()},
        "records": [f"{record['t']} {record['ev']} {_digest(record)}" for record in contents.records],
        "batches": {str(index): _digest([list(item) for item in items]) for index, items in contents.batches.items()},
    }


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _describe_secret(secret: Decoded) -> dict[str, Any]:
    marks = {"current": secret.current, "previous": secret.previous} | secret.labels
    return {
        "marks": marks,
        "versions": {
            str(number): [
                *(version.state, version.kind, describe_content(version.content)),
                *(version.created, version.expires, version.deleted),
                *(version.author, version.content_type, version.metadata),
            ]
            for number, version in secret.versions.items()
        },
    }


def describe_content(content: Content | None) -> Any:  # noqa: ANN401 - JSON
    """Return a content as JSON: bytes in hexadecimal, and only the hash of what is long."""
    if isinstance(content, dict):
        return {name: describe_content(value) for name, value in content.items()}
    if isinstance(content, bytes):
        return f"sha256:{sha256(content).hexdigest()}" if len(content) > SHOWN_AT_MOST else f"hex:{content.hex()}"
    return content


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        before = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = name
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["XDG_STATE_HOME"]
            else:
                os.environ["XDG_STATE_HOME"] = before


def main() -> None:
    expected = {}
    for name, fill in VAULTS.items():
        with _scratch() as folder:
            place = Place(folder)
            with place.create() as vault:
                keys = fill(vault)
            (FOLDER / f"{name}.vault").unlink(missing_ok=True)
            # Without the pages that its making has left free.
            with closing(sqlite3.connect(place.path)) as database:
                database.execute("VACUUM INTO ?", [str(FOLDER / f"{name}.vault")])
            shutil.copyfile(folder / "key", FOLDER / f"{name}.key")
            # Only now, because the comparison is recorded in the log.
            with Vault.open(place.path, key=place.uri, principal="user:alice") as vault:
                expected[name] = keys | describe(assert_agrees(place.path, place.key, vault))
    text = json.dumps(expected, indent=0, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
