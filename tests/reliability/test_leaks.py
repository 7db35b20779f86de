"""Promises 4 and 6: canaries in every place that a user fills, looked for in everything that leaves the process."""

from __future__ import annotations

import base64
import copy
import json
import logging
import os
import pickle
import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import SecurecfgError, StoreFailed, Tampered
from securecfg.policy import Document
from securecfg.store import Put, Space
from securecfg.vault.commits.maintenance import compact
from tests.conftest import ROOT
from tests.reliability.snapshots import rows_of_version
from tests.vault.world import World, interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.vault import Vault

VALUE = "canary-value-3141592653"
CANARIES = {
    "value": VALUE,
    "path": "canary-path-2718281828",
    "folder": "canary-folder-1414213562",
    "role": "canary-role-1618033988",
    "principal": "canary-principal-577215664",
    "metadata": "canary-metadata-915965594",
    "label": "canary-label-1202056903",
    "field": "canary-field-2502907875",
    "content type": "canary/type-4669201609",
    "rule": "canary-rule-2685452001",
}


def encodings(text: str) -> Iterator[bytes]:
    """Yield every form in which a text may turn up."""
    raw = text.encode()
    yield raw
    yield raw.upper()
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        yield text.encode(encoding)
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield raw[::-1]
    for start in range(3):
        whole = raw[start:]
        whole = whole[: len(whole) // 3 * 3]
        yield base64.b64encode(whole)
        yield base64.urlsafe_b64encode(whole)


def leaks(content: bytes, names: set[str] | None = None) -> list[str]:
    return [
        name
        for name, canary in CANARIES.items()
        if (names is None or name in names) and any(form in content for form in encodings(canary))
    ]


def fill(vault: Vault) -> str:
    """Put every canary into a vault; return the path of a secret."""
    path = f"{CANARIES['folder']}/{CANARIES['path']}"
    grants = (
        f"[roles.{CANARIES['role']}]\nmembers = ['user:{CANARIES['principal']}']\n"
        f"[[roles.{CANARIES['role']}.grants]]\nid = '{CANARIES['rule']}'\n"
        f"actions = ['read', 'list', 'write']\npaths = ['{CANARIES['folder']}/**']\n"
    )
    vault.administration.apply_policy([Document("grants.toml", "grants", grants)])
    metadata = {CANARIES["metadata"]: CANARIES["metadata"]}
    vault.write(path, VALUE, metadata=metadata, content_type=CANARIES["content type"])
    vault.write(path, {CANARIES["field"]: VALUE})
    vault.write(f"{path}/large", VALUE * 5_000)
    vault.label(path, CANARIES["label"], 1)
    with vault.batch() as batch:
        for number in range(120):
            batch.write(f"{path}/{number}", VALUE)
    vault.read(path)
    compact(vault.opened)
    vault.write(f"{path}/after", VALUE)
    vault.move(f"{path}/after", f"{path}/moved")
    vault.destroy(f"{path}/moved", 1)
    return path


def files_below(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (file for file in sorted(folder.rglob("*")) if file.is_file())


def test_the_search_finds_every_form() -> None:
    for name, canary in CANARIES.items():
        for form in encodings(canary):
            assert name in leaks(b"before" + form + b"after")
        assert name in leaks(base64.b64encode(b"ab" + canary.encode() + b"c"))
    assert leaks(os.urandom(100_000)) == []


def test_no_file_shows_anything_that_a_user_chose(world: World, vault: Vault, home: Path) -> None:
    """Looked for while the vault is open, after it is closed, and in what a crash leaves."""
    fill(vault)
    acting = world.open(f"user:{CANARIES['principal']}")
    acting.read(f"{CANARIES['folder']}/{CANARIES['path']}")
    for denied in (f"{CANARIES['path']}/x", "other"):
        with pytest.raises(SecurecfgError):
            acting.write(denied, VALUE)
    seen = set()
    for _ in range(2):
        for file in files_below(world.folder, home):
            seen.add(file.suffix or file.parent.name)
            assert leaks(file.read_bytes()) == [], file
        world.close()
    assert {".vault", ".vault-wal", ".vault-shm", "anchors"} <= seen


def test_no_temporary_file_is_left_or_made_elsewhere(
    world: World, vault: Vault, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    for variable in ("TMPDIR", "SQLITE_TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(temporary))
    fill(vault)
    assert list(temporary.iterdir()) == []


def failing_calls(world: World, vault: Vault, path: str) -> list[Callable[[], object]]:
    """Calls that end in an error, most of them with the value at hand."""
    other, store = interrupted(world)

    def store_fails(method: str, call: Callable[[], object]) -> Callable[[], object]:
        def fail() -> None:
            message = "disk"
            raise StoreFailed(message)

        def run() -> object:
            store.interrupt(method, None, fail)
            return call()

        return run

    def in_a_batch() -> None:
        with vault.batch() as batch:
            batch.write(path, VALUE)
            batch.write(path, VALUE, expect=99)

    def tampered() -> object:
        rows = rows_of_version(vault.opened, path, 1)
        entry = vault.opened.entry(path.encode())
        assert entry is not None
        version = vault.opened.locate(path.encode(), entry, 1).version
        vault.opened.store.stage([Put(Space.VALUE, version.value_id, rows.value[:-1] + b"\x00")])
        try:
            return vault.read(path, at=1)
        finally:
            vault.opened.store.stage([Put(Space.VALUE, version.value_id, rows.value)])

    class Failing:
        """A stream that breaks in the middle."""

        def __init__(self) -> None:
            self.position = 0

        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            return self.position

        def seek(self, offset: int, whence: int = 0) -> int:
            self.position = offset if not whence else 100_000
            return self.position

        def read(self, _size: int = -1) -> bytes:
            if self.position > 10_000:
                message = "the device"
                raise OSError(message)
            self.position += 5_000
            return (VALUE * 1_000).encode()[:5_000]

    return [
        lambda: vault.write(path, VALUE, expect=99),
        lambda: vault.write(path, VALUE * 5_000, expect=99),
        lambda: vault.write(path, VALUE.encode(), ttl=timedelta(0)),
        lambda: vault.write(path, {CANARIES["field"]: VALUE, "": VALUE}),
        lambda: vault.write(path, VALUE + "\ud800"),
        lambda: vault.write(path, [VALUE]),  # type: ignore[arg-type]  # what an untyped caller may do
        lambda: vault.write(path, Failing()),  # type: ignore[arg-type]  # as little of a stream as is needed
        lambda: world.open("user:nobody").write(path, VALUE),
        store_fails("commit", lambda: other.write(path, VALUE)),
        store_fails("stage", lambda: other.write(path, VALUE * 5_000)),
        store_fails("commit", lambda: other.rollback(path, 1)),
        store_fails("commit", lambda: other.read(path)),
        lambda: vault.read(path).field("missing"),
        lambda: vault.read_document(path),
        in_a_batch,
        tampered,
    ]


def test_no_error_and_no_traceback_shows_a_value(world: World, vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    path = fill(vault)
    package = str(ROOT / "securecfg")
    shown = []
    with caplog.at_level(logging.DEBUG):
        for number, call in enumerate(failing_calls(world, vault, path)):
            with pytest.raises((SecurecfgError, OSError)) as raised:
                call()
            error = raised.value
            shown_last = "".join(traceback.format_exception_only(error))  # the message and its notes, hints among them
            assert leaks(f"{shown_last} {error!r}".encode(), {"value"}) == []
            stack = traceback.TracebackException.from_exception(error, capture_locals=True)
            while stack is not None:
                # The frames of the caller hold what the caller holds.
                ours = [frame for frame in stack.stack if frame.filename.startswith(package)]
                shown += [(number, one.name) for one in ours if leaks(str(one.locals).encode(), {"value"})]
                follows = stack.__cause__ or (None if stack.__suppress_context__ else stack.__context__)
                stack = follows  # type: ignore[assignment]  # None at the end
    assert shown == []
    assert leaks(caplog.text.encode(), {"value"}) == []
    for record in caplog.records:
        assert leaks(str(record.__dict__).encode(), {"value"}) == []


def test_nothing_that_is_handed_out_shows_its_value_by_accident(vault: Vault) -> None:
    path = fill(vault)
    version = vault.read(path)
    first = vault.read(path, at=1)
    things: list[Any] = [version, first, version.value, first.value, version.field(CANARIES["field"]), vault]
    things += [vault.opened, vault.authority, vault._reads._hits, vars(vault._reads), vault.history(path)]
    things += [vault.ref(path, at=1), vault.opened.replica, vault.opened.replica.keyring]
    for thing in things:
        for shown in (repr(thing), str(thing), f"{thing}", f"{thing!a}"):
            assert leaks(shown.encode(), {"value"}) == []
    for secret in (version.field(CANARIES["field"]), first.value):
        assert copy.deepcopy(secret) is secret
        for refuse in (pickle.dumps, json.dumps):
            with pytest.raises(TypeError):
                refuse(secret)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(first)


def test_the_log_never_holds_a_value(world: World, vault: Vault) -> None:
    path = fill(vault)
    with pytest.raises(Tampered):
        failing_calls(world, vault, path)[-1]()
    records = list(vault.log.records())
    assert len(records) > 8
    for entry in records:
        assert leaks(str(entry.record).encode(), {"value"}) == []
    seen = " ".join(str(entry.record) for entry in records)
    assert CANARIES["path"] in seen
    report = vault.log.report(0, vault.opened.clock.now_ns(), "jsonl")
    assert leaks(str(report).encode(), {"value"}) == []
