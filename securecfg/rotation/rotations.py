"""The rotations of a vault, as one identity may see, set and change them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.errors import (
    Conflict,
    InvalidRotation,
    PathMounted,
    RotationBusy,
    RotationFailed,
    RotationNotFound,
    ScopeSealed,
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
from securecfg.rotation.references import resolve_options
from securecfg.rotation.steps import Steps
from securecfg.secret import Secret
from securecfg.vault.paths import check_principal, path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation.document import Stored
    from securecfg.rotation.interface import Options, Rotator
    from securecfg.rotation.machine import Progress
    from securecfg.vault.vault import Vault

_RETRIES = 8
_CHECK_TOKEN = "0" * 32


class Rotations:
    """What is rotated in a vault.

    Args:
        vault: The vault; secrets in sealed scopes and in mounts are not rotated.
        find: Returns a rotator by its name and options.
    """

    def __init__(self, vault: Vault, *, find: Callable[[str, Options], Rotator] = open_rotator) -> None:
        """Change nothing yet."""
        self._vault = vault
        self._authority = vault.authority
        self._steps = Steps(vault.authority)
        self._find = find

    # --- seeing ------------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Rotation:
        """Return the rotation of a secret.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: The caller may not list the path.
            RotationNotFound: Nothing rotates it.
            Tampered: The document is damaged.
        """
        path_to_bytes(path)
        self._authority.require("list", path)
        return self._steps.find(path).rotation

    def all(self, prefix: str = "") -> list[Rotation]:
        """Return the rotations of the secrets that begin with a prefix and that the caller may list, by path.

        Raises:
            NotAuthenticated: Nobody says who asks.
            Tampered: A document is damaged.
        """
        opened = self._vault.opened
        opened.refresh()
        records = opened.consistently(lambda: [stored.rotation.record for stored in all_rotations(opened)])
        found = [stored.rotation for record in records if (stored := self._steps.find_record(record)) is not None]
        listed = set(self._authority.filter_listed(sorted(rotation.path for rotation in found)))
        shown = [rotation for rotation in found if rotation.path in listed and rotation.path.startswith(prefix)]
        return sorted(shown, key=lambda rotation: rotation.path)

    def verify_may_rotate(self, path: str) -> None:
        """Check that the caller may rotate a secret, whether there is one or not.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: He may not.
        """
        path_to_bytes(path)
        self._authority.require("rotate", path)

    def check(self, path: str) -> list[str]:
        """Return what the rotator of a secret will be missing, in words; empty where all is there. Changes nothing.

        The values that it needs for that are read on behalf of the caller.

        Raises:
            RotationNotFound: Nothing rotates it.
            AccessDenied: The caller may not rotate the secret, or not read what that needs.
            TargetUnavailable, CredentialRefused: The target cannot be asked.
        """
        self.verify_may_rotate(path)
        rotation = self._steps.find(path).rotation
        rotator = self._find(rotation.rules.rotator, resolve_options(self._vault, rotation.rules.options))
        value = self._vault.read(path, allow_expired=True).value
        fields = {"": value} if isinstance(value, Secret) else value
        now = to_datetime(self._now_ns())
        run = Run(_CHECK_TOKEN, now, float(rotation.rules.timeout_s), current=fields)
        return list(rotator.check(run)) if isinstance(rotator, ChecksPrivileges) else []

    # --- changing ----------------------------------------------------------------------------------------------------

    def set(self, path: str, rules: Rules) -> Rotation:
        """Set how a secret is rotated, and return the rotation. Rotates nothing by itself.

        Raises:
            AccessDenied: The caller may not read, write and rotate the secret, or not read what an option refers to.
            SecretNotFound, VersionNotFound: There is no live secret at the path.
            InvalidRotation: The rules make no sense, or the secret lies in a sealed scope or a store that is mounted.
            Conflict: A rotation is under way, and the rules are of another rotator or have other options.
        """
        self._verify(rules)
        self.verify_may_rotate(path)
        self._verify_place(path)
        rotator = self._find(rules.rotator, resolve_options(self._vault, rules.options))
        if rotator.strategy is Strategy.SINGLE_SLOT and not rules.is_hard_cut:
            message = (
                f"the rotator `{rules.rotator}` cuts off who still uses the old value, from one moment to the next"
            )
            hint = "give it a second login to take turns with, or acknowledge that with `--hard-cut`"
            raise InvalidRotation(message, hint=hint)
        now = self._now_ns()
        standing = self._steps.standing(path)

        def make(record: int, known: Stored | None) -> Rotation:
            due = due_after(rules, record, now, standing)
            author = self._vault.principal
            if known is None:
                return Rotation(record, path, rules, author, due)
            former = known.rotation
            is_same = (former.rules.rotator, former.rules.options) == (rules.rotator, rules.options)
            if former.is_running and not is_same:
                message = f"`{path}` is being rotated by other rules"
                raise Conflict(message, hint=f"wait, or take it back: `securecfg rotation cancel {path}`")
            return former._replace(path=path, rules=rules, set_by=author, due_ns=due)

        return self._steps.create(path, make, {"path": path, "rotator": rules.rotator}).rotation

    def remove(self, path: str) -> None:
        """Rotate a secret no more. It stays as it is.

        Raises:
            RotationNotFound: Nothing rotates it.
            AccessDenied: The caller may not rotate it.
            Conflict: A rotation is under way.
        """
        self.verify_may_rotate(path)
        stored = self._steps.find(path)
        # Nothing is left to be taken back of a secret that was deleted.
        if stored.rotation.is_running and self._steps.standing(path).current:
            message = f"`{path}` is being rotated"
            raise Conflict(message, hint=f"wait, or take it back: `securecfg rotation cancel {path}`")
        self._steps.remove(stored)

    def pause(self, path: str) -> Rotation:
        """Begin nothing and go no step until `resume`.

        Raises:
            As for `remove`, without the conflict.
        """
        return self._change(path, "pause", lambda rotation: rotation._replace(is_paused=True))

    def resume(self, path: str) -> Rotation:
        """Go on after `pause`.

        Raises:
            As for `pause`.
        """
        return self._change(path, "resume", lambda rotation: rotation._replace(is_paused=False))

    def retry(self, path: str) -> Rotation:
        """Let a rotation go on that has failed, from where it was, or with another candidate where that is gone.

        Raises:
            RotationFailed: It has not failed.
            As for `pause`.
        """

        def change(rotation: Rotation) -> Rotation:
            progress = _progress_of(rotation)
            if progress.state is not State.FAILED:
                message = f"the rotation of `{path}` has not failed"
                raise RotationFailed(message, hint=f"`securecfg rotation status {path}` says how it is")
            if progress.failed_in in BEFORE_SWAP and self._steps.standing(path).pending != progress.version:
                after = machine.retry_anew(progress, secrets.token_hex(16), self._now_ns())
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

        def change(rotation: Rotation) -> Rotation:
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
        """
        principal = self._vault.principal
        self._authority.require("read", path)
        for _ in range(_RETRIES):
            try:
                stored = self._steps.find(path)
            except RotationNotFound:
                return False
            rotation, progress = stored.rotation, stored.rotation.progress
            if progress is None or progress.state is not State.CURRENT or progress.version != version:
                return False
            if principal not in rotation.rules.consumers or principal in progress.acknowledged:
                return False
            after = rotation._replace(progress=machine.acknowledged(progress, principal))
            try:
                self._steps.acknowledge(stored, after, version)
            except RotationBusy:
                continue
            return True
        message = f"others change the rotation of `{path}` all the time"
        raise RotationBusy(message, hint="try again in a moment")

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _change(self, path: str, action: str, change: Callable[[Rotation], Rotation]) -> Rotation:
        self.verify_may_rotate(path)
        for _ in range(_RETRIES):
            stored = self._steps.find(path)
            after = change(stored.rotation)
            if after == stored.rotation:
                return after
            obj = {"path": path, "rotator": after.rules.rotator, "action": action}
            try:
                return self._steps.change(stored, lambda _, after=after: after, obj).rotation  # type: ignore[misc]  # lambda default
            except RotationBusy:
                continue
        message = f"others change the rotation of `{path}` all the time"
        raise RotationBusy(message, hint="try again in a moment")

    def _verify_place(self, path: str) -> None:
        try:
            self._vault.opened.verify_own(path)
        except (PathMounted, ScopeSealed) as error:
            where = "a store that is mounted" if isinstance(error, PathMounted) else "a sealed scope"
            message = f"`{path}` lies in {where}, and only secrets that the vault itself holds are rotated"
            raise InvalidRotation(message, hint="rotate it where it is, or move it into the vault") from None

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

    def _now_ns(self) -> int:
        return self._vault.opened.clock.now_ns()


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
