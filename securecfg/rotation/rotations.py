"""The rotations of a vault, as one identity may see, set and change them."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from securecfg.clock import SystemClock, to_datetime
from securecfg.errors import (
    Conflict,
    InvalidRotation,
    PathMounted,
    RotationBusy,
    RotationFailed,
    RotationNotFound,
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    VersionNotFound,
)
from securecfg.rotation import machine
from securecfg.rotation.document import (
    CONSUMERS_MAX,
    OPTION_BYTES_MAX,
    OPTIONS_MAX,
    RANGES,
    Rotation,
    Rules,
    all_rotations,
)
from securecfg.rotation.due import due_after
from securecfg.rotation.interface import ChecksPrivileges, Run, Strategy
from securecfg.rotation.machine import BEFORE_SWAP, State
from securecfg.rotation.names import open_rotator
from securecfg.rotation.parts import is_led, part_of, parts_of, verify_led, verify_references
from securecfg.rotation.references import resolve_options
from securecfg.rotation.steps import Steps
from securecfg.secret import Secret
from securecfg.vault.paths import check_principal, path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation.document import Stored
    from securecfg.rotation.interface import Fields, Options, Rotator
    from securecfg.rotation.machine import Progress
    from securecfg.vault.vault import Vault

_RETRIES = 8
_CHECK_TOKEN = "0" * 32


class Rotations:
    """What is rotated in a vault, and in those of its sealed scopes that are open.

    Args:
        vault: The vault as it is open; secrets in mounts are not rotated.
        find: Returns a rotator by its name and options.
    """

    def __init__(self, vault: Vault, *, find: Callable[[str, Options], Rotator] = open_rotator) -> None:
        """Change nothing yet."""
        self._vault = vault
        self._find = find

    # --- seeing ------------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Rotation:
        """Return the rotation of a secret.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: The caller may not list the path.
            RotationNotFound: Nothing rotates it.
            ScopeSealed: It lies in a scope that the key at hand does not open.
            Tampered: The document is damaged.
        """
        path_to_bytes(path)
        authority = part_of(self._vault, path).authority
        authority.require("list", path)
        return Steps(authority).find(path).rotation

    def all(self, prefix: str = "", failures: dict[str, SecurecfgError] | None = None) -> list[Rotation]:
        """Return the rotations of the secrets that begin with a prefix and that the caller may list, by path.

        Args:
            prefix: With what.
            failures: Gets the failure of each sealed scope that does not open, which is then passed over.

        Raises:
            NotAuthenticated: Nobody says who asks.
            Tampered: A document is damaged, or a scope is not there.
        """
        shown = [
            rotation for scope, part in parts_of(self._vault, failures) for rotation in _listed(part, scope, prefix)
        ]
        return sorted(shown, key=lambda rotation: rotation.path)

    def verify_may_rotate(self, path: str) -> None:
        """Check that the caller may rotate a secret, whether there is one or not.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: He may not.
            ScopeSealed: It lies in a scope that the key at hand does not open.
        """
        path_to_bytes(path)
        part_of(self._vault, path).authority.require("rotate", path)

    def may_lead(self, path: str) -> bool:
        """Return whether the caller may rotate a secret, and the key at hand opens what that takes. Records nothing.

        Raises:
            ScopeSealed: It lies in a scope that the key at hand does not open.
        """
        part = part_of(self._vault, path)
        return is_led(part.opened) and part.authority.session().decide("rotate", path).allowed

    def now_ns(self) -> int:
        """Return the time that rotations are due by."""
        clock = next((part.opened.clock for _, part in parts_of(self._vault)), None) or SystemClock()
        return clock.now_ns()

    def check(self, path: str) -> list[str]:
        """Return what the rotator of a secret will be missing, in words; empty where all is there. Changes nothing.

        The values that it needs for that are read on behalf of the caller.

        Raises:
            RotationNotFound: Nothing rotates it.
            AccessDenied: The caller may not rotate the secret, or not read what that needs.
            TargetUnavailable, CredentialRefused: The target cannot be asked.
        """
        self.verify_may_rotate(path)
        part = part_of(self._vault, path)
        rotation = Steps(part.authority).find(path).rotation
        rotator = self._find(rotation.rules.rotator, resolve_options(part, rotation.rules.options))
        current = _fields(part.read(path, allow_expired=True).value)
        previous = None
        with suppress(SecretNotFound, VersionNotFound, SecretDestroyed):
            previous = _fields(part.read(path, at="previous", allow_expired=True).value)
        now = to_datetime(_now_ns(part))
        run = Run(_CHECK_TOKEN, now, float(rotation.rules.timeout_s), current=current, previous=previous)
        return list(rotator.check(run)) if isinstance(rotator, ChecksPrivileges) else []

    # --- changing ----------------------------------------------------------------------------------------------------

    def set(self, path: str, rules: Rules) -> Rotation:
        """Set how a secret is rotated, and return the rotation. Rotates nothing by itself.

        Raises:
            AccessDenied: The caller may not read, write and rotate the secret, or not read what an option refers to.
            SecretNotFound, VersionNotFound: There is no live secret at the path.
            InvalidRotation: The rules make no sense, or the secret lies in a store that is mounted, or it lies in a
                sealed scope and an option refers to what does not.
            ScopeSealed: It lies in a scope that the key at hand does not both read and write.
            Conflict: A rotation is under way, and the rules are of another rotator or another strategy.
        """
        self._verify(rules)
        self.verify_may_rotate(path)
        part = part_of(self._vault, path)
        _verify_own(part, path)
        verify_led(part.opened, path)
        verify_references(self._vault, path, rules.options)
        rotator = self._find(rules.rotator, resolve_options(part, rules.options))
        if rotator.strategy is Strategy.SINGLE_SLOT and not rules.is_hard_cut:
            message = (
                f"the rotator `{rules.rotator}` cuts off who still uses the old value, from one moment to the next"
            )
            hint = "give it a second login to take turns with, or acknowledge that with `--hard-cut`"
            raise InvalidRotation(message, hint=hint)
        steps = Steps(part.authority)
        now = _now_ns(part)
        standing = steps.standing(path)
        seen = self._running(steps, path)
        is_alike = seen is not None and self._is_alike(part, seen, rules.rotator, rotator)

        def make(record: int, known: Stored | None) -> Rotation:
            due = due_after(rules, record, now, standing)
            author = self._vault.principal
            if known is None:
                return Rotation(record, path, rules, author, due)
            former = known.rotation._replace(path=path, rules=rules, set_by=author, due_ns=due)
            is_same = (known.rotation.rules.rotator, known.rotation.rules.options) == (rules.rotator, rules.options)
            if is_same or not former.is_running or former.progress is None:
                return former
            if known.rotation.rules != seen or not is_alike:
                message = f"`{path}` is being rotated by another rotator, or otherwise"
                raise Conflict(message, hint=f"wait, or take it back: `securecfg rotation cancel {path}`")
            return former._replace(progress=machine.redirected(former.progress))

        return steps.create(path, make, {"path": path, "rotator": rules.rotator}).rotation

    @staticmethod
    def _running(steps: Steps, path: str) -> Rules | None:
        """Return by which rules a secret is being rotated, None where it is not."""
        try:
            rotation = steps.find(path).rotation
        except RotationNotFound:
            return None
        return rotation.rules if rotation.is_running else None

    def _is_alike(self, part: Vault, former: Rules, name: str, rotator: Rotator) -> bool:
        """Return whether what was begun by some rules may go on with a rotator: it is the same but for options."""
        if former.rotator != name:
            return False
        try:
            return self._find(name, resolve_options(part, former.options)).strategy is rotator.strategy
        except SecurecfgError:
            return False

    def remove(self, path: str, *, is_abandoned: bool = False) -> None:
        """Rotate a secret no more. It stays as it is, with all of its versions.

        Args:
            path: Of the secret.
            is_abandoned: Whether a run that could not be taken back, as its target is gone for good, is given up.

        Raises:
            RotationNotFound: Nothing rotates it.
            AccessDenied: The caller may not rotate it.
            ScopeSealed: It lies in a scope that the key at hand does not write.
            Conflict: A rotation is under way.
        """
        self.verify_may_rotate(path)
        steps = Steps(part_of(self._vault, path).authority)
        stored = steps.find(path)
        progress = stored.rotation.progress
        is_cancelled = progress is not None and State.CANCELLING in {progress.state, progress.failed_in}
        # Nothing is left to be taken back of a secret that was deleted.
        standing = steps.standing(path)
        if stored.rotation.is_running and standing.current and not (is_abandoned and is_cancelled):
            message = f"`{path}` is being rotated"
            raise Conflict(message, hint=f"wait, or take it back: `securecfg rotation cancel {path}`")
        steps.remove(stored, releases=is_abandoned and standing.pending != 0)

    def pause(self, path: str) -> Rotation:
        """Begin nothing and go no step until `resume`.

        Raises:
            As for `remove`, without the conflict.
        """
        return self._change(path, "pause", lambda rotation, _: rotation._replace(is_paused=True))

    def resume(self, path: str) -> Rotation:
        """Go on after `pause`.

        Raises:
            As for `pause`.
        """
        return self._change(path, "resume", lambda rotation, _: rotation._replace(is_paused=False))

    def retry(self, path: str) -> Rotation:
        """Let a rotation go on that has failed, from where it was, or with another candidate where that is gone.

        Raises:
            RotationFailed: It has not failed.
            As for `pause`.
        """

        def change(rotation: Rotation, part: Vault) -> Rotation:
            progress = _progress_of(rotation)
            if progress.state is not State.FAILED:
                message = f"the rotation of `{path}` has not failed"
                raise RotationFailed(message, hint=f"`securecfg rotation status {path}` says how it is")
            standing = Steps(part.authority).standing(path)
            is_gone = progress.version not in {0, standing.pending}
            if progress.failed_in in BEFORE_SWAP and is_gone:
                after = machine.retry_anew(progress, secrets.token_hex(16), _now_ns(part))
            else:
                after = machine.retry(progress)
            return rotation._replace(progress=after, holder=None)

        return self._change(path, "retry", change)

    def cancel(self, path: str) -> Rotation:
        """Take a rotation back whose new version is not current yet. The next step does it.

        Raises:
            RotationFailed: Its new version is current already, or there is none under way.
            As for `pause`.
        """

        def change(rotation: Rotation, _: Vault) -> Rotation:
            progress = _progress_of(rotation)
            failed_in = progress.failed_in if progress.state is State.FAILED else progress.state
            if failed_in not in BEFORE_SWAP and failed_in is not State.CANCELLING:
                message = f"there is nothing to take back of the rotation of `{path}`"
                hint = f"its new version is current; `securecfg secret history {path}` lists all"
                raise RotationFailed(message, hint=hint)
            if progress.state is State.CANCELLING:
                return rotation
            return rotation._replace(progress=machine.cancel(progress))

        return self._change(path, "cancel", change)

    def acknowledge(self, path: str, version: int) -> bool:
        """Say that the caller, a consumer of a secret, has its new version; return whether anybody waits for that.

        Raises:
            AccessDenied: The caller may not read the secret.
            ScopeSealed: It lies in a scope that the key at hand does not write: nobody would believe it.
        """
        principal = self._vault.principal
        authority = part_of(self._vault, path).authority
        authority.require("read", path)
        steps = Steps(authority)
        for _ in range(_RETRIES):
            try:
                stored = steps.find(path)
            except RotationNotFound:
                return False
            rotation, progress = stored.rotation, stored.rotation.progress
            if progress is None or progress.state is not State.CURRENT or progress.version != version:
                return False
            if principal not in rotation.rules.consumers or principal in progress.acknowledged:
                return False
            after = rotation._replace(progress=machine.acknowledged(progress, principal))
            try:
                steps.acknowledge(stored, after, version)
            except RotationBusy:
                continue
            return True
        message = f"others change the rotation of `{path}` all the time"
        raise RotationBusy(message, hint="try again in a moment")

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _change(self, path: str, action: str, change: Callable[[Rotation, Vault], Rotation]) -> Rotation:
        self.verify_may_rotate(path)
        part = part_of(self._vault, path)
        steps = Steps(part.authority)
        for _ in range(_RETRIES):
            stored = steps.find(path)
            after = change(stored.rotation, part)
            if after == stored.rotation:
                return after
            obj = {"path": path, "rotator": after.rules.rotator, "action": action}
            try:
                return steps.change(stored, lambda _, after=after: after, obj).rotation  # type: ignore[misc]  # lambda default
            except RotationBusy:
                continue
        message = f"others change the rotation of `{path}` all the time"
        raise RotationBusy(message, hint="try again in a moment")

    def _verify(self, rules: Rules) -> None:
        _verify_numbers(rules)
        if rules.is_hard_cut.__class__ is not bool:
            message = "that a rotation cuts off who uses the old value is acknowledged, or not"
            raise InvalidRotation(message)
        if len(rules.consumers) > CONSUMERS_MAX:
            message = f"a rotation has at most {CONSUMERS_MAX} consumers"
            raise InvalidRotation(message)
        for principal in rules.consumers:
            check_principal(principal)
        try:
            sizes = [len(text.encode()) for text in (*rules.options, *rules.options.values())]
        except UnicodeEncodeError:
            message = "an option of a rotation holds what is no text"
            raise InvalidRotation(message) from None
        if len(rules.options) > OPTIONS_MAX or any(size > OPTION_BYTES_MAX for size in sizes):
            message = f"a rotation has at most {OPTIONS_MAX} options, each of at most {OPTION_BYTES_MAX} bytes"
            raise InvalidRotation(message)


def _listed(part: Vault, scope: str, prefix: str) -> list[Rotation]:
    """Return the rotations in one part that the caller may list and that begin with a prefix."""
    if not (scope.startswith(prefix) or prefix.startswith(scope)):
        return []
    opened, steps = part.opened, Steps(part.authority)
    opened.refresh()
    records = opened.consistently(lambda: [stored.rotation.record for stored in all_rotations(opened)])
    found = [stored.rotation for record in records if (stored := steps.find_record(record)) is not None]
    listed = set(part.authority.filter_listed(sorted(rotation.path for rotation in found)))
    return [rotation for rotation in found if rotation.path in listed and rotation.path.startswith(prefix)]


def _verify_own(part: Vault, path: str) -> None:
    try:
        part.opened.verify_own(path)
    except PathMounted:
        message = f"`{path}` lies in a store that is mounted, whose versions another service keeps"
        raise InvalidRotation(message, hint="rotate it where it is, or move it into the vault") from None


def _now_ns(part: Vault) -> int:
    return part.opened.clock.now_ns()


def _fields(value: Secret[str] | Secret[bytes] | Fields) -> Fields:
    return {"": value} if isinstance(value, Secret) else value


def _verify_numbers(rules: Rules) -> None:
    for name, at_least, at_most in RANGES:
        number: object = getattr(rules, name)
        if number.__class__ is not int or not at_least <= number <= at_most:
            message = f"the {name.removesuffix('_s')} of a rotation is from {at_least} to {at_most} whole seconds"
            raise InvalidRotation(message)


def _progress_of(rotation: Rotation) -> Progress:
    if rotation.progress is None or rotation.progress.is_over:
        message = f"no rotation of `{rotation.path}` is under way"
        raise RotationFailed(message, hint=f"`securecfg rotation run {rotation.path}` begins one")
    return rotation.progress
