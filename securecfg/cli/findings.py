"""What `securecfg doctor` looks at. A check changes nothing but what opening a vault changes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import IntegrityError, KeyProviderRefused, SecurecfgError, Unavailable, Unsupported
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.cli.inspection import Front
    from securecfg.vault import Vault

_NAME = "securecfg-vault"
_OTHER_NAME = "securecfg"
_SQLITE_LEAST = (3, 51, 3)
_CRYPTOGRAPHY_LEAST = 48
_RECORDS_MANY = 1_000_000
_UNSEEN_MANY = 1_000
_LOOKED_AT_MOST = 20_000
_NAMED_MOST = 5
_OTHER_EXTRAS = {"pydantic": "pydantic", "ssh": "bcrypt"}
"""Extras besides those of the kinds of keys, and a module of what each needs."""


class Grade(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        grade: How serious it is.
        message: What was seen.
        hint: What to do, or empty.
        exit_code: Of a problem; else 0.
    """

    name: str
    grade: Grade
    message: str
    hint: str = ""
    exit_code: int = 0


def problem(name: str, error: SecurecfgError) -> Finding:
    """Return the finding that an error is."""
    return Finding(name, Grade.PROBLEM, error.message, error.hint, error.exit_code)


def look_at_installation() -> Iterator[Finding]:
    """Look at the program and what it is built on."""
    yield _package()
    yield _other_package()
    yield _sqlite()
    yield _cryptography()
    yield _extras()
    yield _keyring()
    yield _core_dumps()
    yield _swap()


def look_at_file(path: Path) -> Iterator[Finding]:
    """Look at the file of a vault, from outside."""
    from securecfg.store.filesystems import file_system_of, is_network

    kind = file_system_of(os.path.realpath(path))
    if is_network(kind):
        message = f"`{path}` lies on a network file system ({kind})"
        hint = "keep the vault on a local disk; it can only be read where it is"
        yield Finding("file system", Grade.PROBLEM, message, hint, Unsupported.exit_code)
    else:
        yield Finding("file system", Grade.OK, kind or "not known")
    status = path.stat()
    yield _permissions(path, status)
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        message = f"everybody may replace files in `{path.parent}`"
        yield Finding("folder", Grade.WARNING, message, f"run `chmod o-w {path.parent}`")


def look_at_slots(front: Front) -> Iterator[Finding]:
    """Look at what opens a vault."""
    slots = sum(front.kinds.values())
    if slots == len(front.fragile):
        message = "every slot takes all of several keys; if one key of each is lost, so is everything"
        yield Finding("keys", Grade.WARNING, message, "run `securecfg key add recovery:` and write the code down")
    elif slots == 1:
        message = "one key alone opens the vault; if it is lost, so is everything"
        yield Finding("keys", Grade.WARNING, message, "run `securecfg key add recovery:` and write the code down")
    else:
        yield Finding("keys", Grade.OK, ", ".join(f"{count} {kind}" for kind, count in front.kinds.items()))
    for number in front.cheap:
        message = f"the passphrase of slot {number} costs less to guess than that of a new slot"
        hint = f"run `securecfg key rotate slot {number} --slot-key passphrase:`"
        yield Finding("passphrase", Grade.WARNING, message, hint)


def recorded_size(vault_id: bytes, path: Path) -> int | None:
    """Return how many records of a vault this machine has recorded, or None. Opening the vault records all it holds."""
    from securecfg.vault.state.anchor import AnchorFile

    try:
        anchor = AnchorFile(vault_id, path).read()
    except OSError:
        return None
    return None if anchor is None else anchor.mark.size


def look_inside(vault: Vault, path: Path, recorded: int | None) -> Iterator[Finding]:
    """Look at an open vault.

    Args:
        vault: The vault.
        path: Where it lies.
        recorded: What `recorded_size` returned before it was opened.
    """
    from securecfg.cli.inspection import CLOCK_HINT, Inside

    inside = Inside.look(vault, path)
    records = counted(inside.records, "record")
    yield Finding("opens", Grade.OK, f"as {inside.principal or 'nobody'}, {records} in the log")
    yield _anchor(vault, path, recorded)
    if inside.is_clock_behind:
        message = "the newest publication lies more than five minutes in the future of this machine's clock"
        hint = f"{CLOCK_HINT}; until then permits with a time condition deny"
        yield Finding("clock", Grade.PROBLEM, message, hint, Unavailable.exit_code)
    else:
        yield Finding("clock", Grade.OK, "agrees with the log")
    yield _policy(vault)
    if inside.pending:
        message = f"still to be finished: {' and '.join(inside.pending)}"
        yield Finding(
            "pending", Grade.NOTE, message, "close other programs that hold the vault; the next to open it finishes"
        )
    if inside.records > _RECORDS_MANY:
        yield Finding("log", Grade.NOTE, f"the log holds {records}", "it makes the file grow, nothing else")
    if vault.principal:
        yield _expired(vault)


def _package() -> Finding:
    try:
        return Finding("securecfg", Grade.OK, f"{_NAME} {version(_NAME)}")
    except PackageNotFoundError:
        return Finding("securecfg", Grade.NOTE, "runs from its source, not installed", f"pip install {_NAME}")


def _other_package() -> Finding:
    try:
        other = version(_OTHER_NAME)
    except PackageNotFoundError:
        return Finding("package name", Grade.OK, "no other project is installed under the module's name")
    message = f"the project `{_OTHER_NAME}` {other} is installed; it is not this one and owns the same module"
    hint = f"pip uninstall {_OTHER_NAME} {_NAME} && pip install {_NAME}"
    return Finding("package name", Grade.PROBLEM, message, hint, Unsupported.exit_code)


def _sqlite() -> Finding:
    import apsw

    found = apsw.sqlite_lib_version()
    if tuple(int(part) for part in found.split(".")) < _SQLITE_LEAST:
        message = f"SQLite {found} can corrupt a vault that several processes write"
        return Finding("SQLite", Grade.PROBLEM, message, "pip install --upgrade apsw", Unsupported.exit_code)
    return Finding("SQLite", Grade.OK, f"{found}, apsw {version('apsw')}")


def _cryptography() -> Finding:
    from cryptography.hazmat.backends.openssl.backend import backend

    found = version("cryptography")
    if int(found.partition(".")[0]) < _CRYPTOGRAPHY_LEAST:
        message = f"cryptography {found} is older than {_CRYPTOGRAPHY_LEAST}"
        return Finding(
            "cryptography", Grade.PROBLEM, message, "pip install --upgrade cryptography", Unsupported.exit_code
        )
    return Finding("cryptography", Grade.OK, f"{found}, {backend.openssl_version_text()}")


def _extras() -> Finding:
    from securecfg.keys.installed import is_there
    from securecfg.keys.uri import EXTRAS

    extras = EXTRAS | _OTHER_EXTRAS
    there = [extra for extra in sorted(extras) if is_there(extras[extra])]
    missing = [extra for extra in sorted(extras) if extra not in there]
    message = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    return Finding("extras", Grade.OK, message)


def _keyring() -> Finding:
    from securecfg.keys.providers.keyring import find_backend

    try:
        backend = find_backend()
    except KeyProviderRefused as error:
        return Finding("keyring", Grade.WARNING, error.message, error.hint)
    except SecurecfgError as error:
        return Finding("keyring", Grade.NOTE, error.message, "`file:` and `passphrase:` keys need none")
    return Finding("keyring", Grade.OK, type(backend).__module__)


def _core_dumps() -> Finding:
    import resource

    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        return Finding("core dumps", Grade.OK, "off")
    message = "a program that crashes may write its memory, secrets included, to disk"
    return Finding("core dumps", Grade.NOTE, message, "run `ulimit -c 0`, or `LimitCORE=0` in a systemd unit")


def _swap() -> Finding:
    try:
        lines = Path("/proc/swaps").read_text("utf-8", "replace").splitlines()[1:]
    except OSError:
        lines = []
    devices = [line.split()[0] for line in lines if line.split()]
    plain = [device for device in devices if not device.startswith(("/dev/zram", "/dev/dm-", "/dev/mapper/"))]
    if plain:
        message = f"memory, secrets included, may be written to {', '.join(plain)}"
        return Finding("swap", Grade.NOTE, message, "encrypt the swap space, or use zram")
    return Finding("swap", Grade.OK, "none that is plain")


def _permissions(path: Path, status: os.stat_result) -> Finding:
    if status.st_uid not in {os.geteuid(), 0}:
        return Finding("permissions", Grade.WARNING, f"`{path}` belongs to another user")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        message = f"others can read or write `{path}`; its content is sealed, yet they could replace or delete it"
        return Finding("permissions", Grade.WARNING, message, f"run `chmod 600 {path}`")
    return Finding("permissions", Grade.OK, "only its owner can reach the file")


def _anchor(vault: Vault, path: Path, recorded: int | None) -> Finding:
    """Judge what this machine knew of the vault before it was opened, and whether it can record what it sees."""
    from securecfg.vault.state.anchor import AnchorFile

    opened = vault.opened
    opened.advance_anchor()
    size, vault_id = opened.replica.checkpoint.size, opened.replica.vault_id
    known, all_records = recorded_size(vault_id, path) or 0, counted(size, "record")
    if known < size:
        message = (
            f"this machine knows {known} of {all_records} and cannot record more; an older copy may pass unnoticed"
        )
        return Finding("anchor", Grade.WARNING, message, f"make `{AnchorFile(vault_id, path).path}` writable for you")
    elsewhere = "`securecfg audit verify --against FILE` compares the vault with a checkpoint that was kept elsewhere"
    if recorded is None:
        message = "this machine had recorded nothing of the vault, so it cannot tell whether this is an older copy"
        return Finding("anchor", Grade.WARNING, f"{message}; from now on it knows {all_records}", elsewhere)
    if size - recorded > _UNSEEN_MANY:
        message = f"this machine knew only {recorded} of {all_records}; an older copy with a few more would have passed"
        return Finding("anchor", Grade.WARNING, f"{message}; from now on it knows all", elsewhere)
    return Finding("anchor", Grade.OK, f"this machine knows all {all_records}")


def _policy(vault: Vault) -> Finding:
    from securecfg.vault.opened import POLICY_PATH

    try:
        vault.opened.policy()[1].compile()
    except IntegrityError as error:
        return problem("policy", error)
    except SecurecfgError as error:
        hint = "`securecfg policy rollback` applies an earlier one"
        return Finding("policy", Grade.PROBLEM, error.message, hint, error.exit_code)
    if vault.opened.replica.index.get(POLICY_PATH) is None:
        message = "no policy is applied, so only administrators may do anything"
        return Finding("policy", Grade.NOTE, message, "`securecfg policy apply FILE` applies one")
    return Finding("policy", Grade.OK, "compiles")


def _expired(vault: Vault) -> Finding:
    opened = vault.opened
    now = opened.clock.now_ns()
    # What is mounted expires in its store, if at all, and no store is asked here.
    paths = [path for _, part in vault.parts({}) for path in part.list()][:_LOOKED_AT_MOST]
    expired = []
    for path in paths:
        encoded = path.encode()
        entry = opened.replica.index.get(encoded)
        if entry is not None and entry.live and 0 < opened.locate(encoded, entry, 0).version.expires <= now:
            expired.append(path)
    if not expired:
        return Finding("expiry", Grade.OK, f"none has expired, of {counted(len(paths), 'secret')} that you may list")
    named = ", ".join(f"`{path}`" for path in expired[:_NAMED_MOST])
    more = f" and {len(expired) - _NAMED_MOST} more" if len(expired) > _NAMED_MOST else ""
    return Finding("expiry", Grade.WARNING, f"expired: {named}{more}", "write new versions with `securecfg secret put`")
