"""Rotates what is due, for as long as it runs. Many may run: a lease lets one work at each rotation.

One thread knows what is due next, and waits for it without looking at the others; a few work; all that they know is
in the vault, so that a daemon may be killed at any moment. It goes over the vault and each sealed scope that its key
reads and writes; what that does not open is not there for it.
"""

from __future__ import annotations

import logging
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import (
    FileMissing,
    IntegrityError,
    ScopeSealed,
    Sealed,
    SecurecfgError,
    Unavailable,
    VaultClosed,
)
from securecfg.rotation.breaker import Breakers
from securecfg.rotation.calls import Calls
from securecfg.rotation.document import LEASE_S, NS
from securecfg.rotation.lease import Leases, elapsed_s
from securecfg.rotation.names import open_rotator
from securecfg.rotation.own_keys import replace_due_keys
from securecfg.rotation.pace import Pace
from securecfg.rotation.parts import parts_of
from securecfg.rotation.posts import Post
from securecfg.rotation.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from securecfg.rotation.interface import Options, Rotator
    from securecfg.rotation.runner import StepDetails
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.vault import Vault

LOOKED_AT_S = 0.2
"""How often it is seen whether anything in the vault has changed, which is a comparison of memory."""

AWAKE_S = 5.0
"""How long it waits at most, so that a clock that was set is noticed."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

SCOPES_S = 300.0
"""After how long a vault of which only sealed scopes are open is opened again, where anything has changed: what was
granted to an identity meanwhile shows only then."""

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """How much a daemon does at once.

    Attributes:
        workers: At how many rotations it works at the same time.
        calls_per_s: How many calls of one target it begins in a second.
        stop_s: How long it waits for steps that are under way when it is to end.
        lease_s: After how long without a sign of life another daemon goes on with what this one has begun.
        keys_s: How often it looks whether the vault's own keys have come to their limits; 0 for never.
    """

    workers: int = 8
    calls_per_s: float = 20.0
    stop_s: float = 20.0
    lease_s: int = LEASE_S
    keys_s: float = 0.0


class Health(NamedTuple):
    """How a daemon is.

    Attributes:
        is_alive: Whether it has looked around lately.
        is_ready: Whether it has the vault open, knows what is due, and its last change of the vault was made.
        reason: The code of what keeps it from being ready; empty where nothing does.
        rotations: How many rotations there are, by state; `idle` are those that wait until they are due.
        next_ns: When something is due next; None for never.
        working: At how many rotations it works.
        hindered: How many rotations could not be led on when that was tried last, by the code of why; not those whose
            target is away, which is a part of their state.
    """

    is_alive: bool
    is_ready: bool
    reason: str
    rotations: dict[str, int]
    next_ns: int | None
    working: int
    hindered: Mapping[str, int] = MappingProxyType({})


class Daemon:
    """Rotates what is due in one vault.

    Args:
        open_vault: Opens the vault; called again where it could not be opened, or had to be closed.
        limits: How much it does at once.
        observe: Is told of each step.
        find: Returns a rotator by its name and options.
    """

    def __init__(
        self,
        open_vault: Callable[[], Vault],
        *,
        limits: Limits = Limits(),  # noqa: B008 - a tuple, which nobody changes
        observe: Callable[[StepDetails], None] = lambda _: None,
        find: Callable[[str, Options], Rotator] = open_rotator,
    ) -> None:
        """Do nothing yet."""
        self._open_vault = open_vault
        self._limits = limits
        self._observe = observe
        self._find = find
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._must_reload = False
        # By the id of the part. One holder for all its openings: what was under way in the last need not be waited for.
        self._posts: dict[bytes, Post] = {}
        self._leases: dict[bytes, Leases] = {}
        # And a call that was left behind before the vault was opened anew is not over by that.
        self._calls: dict[bytes, Calls] = {}
        self._open: list[tuple[Post, Runner]] = []
        self._closed: dict[str, type[SecurecfgError]] = {}
        self._pace = Pace(limits.calls_per_s, elapsed_s, self._stopping.wait)
        self._keys_s = 0.0
        self._is_at_keys = False
        self._reason = "starting"
        self._seen_s = elapsed_s()
        self._latest_ns = 0

    # --- from outside, by any thread ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """End soon: begin nothing, and leave each rotation where its next step is stored. May be called by a signal."""
        self._stopping.set()
        for _, runner in self._open:
            runner.stop()

    def reload(self) -> None:
        """Look at all rotations anew. May be called by a signal."""
        self._must_reload = True

    def health(self) -> Health:
        """Return how it is."""
        with self._wake:
            counts: dict[str, int] = {}
            hindered: dict[str, int] = {}
            reason = self._reason or ("stopping" if self._stopping.is_set() else "")
            kinds = list(self._closed.values())
            for post, _ in self._open:  # what is still worked at in a part that was left says nothing of the others
                for state in post.states.values():
                    counts[state] = counts.get(state, 0) + 1
                for kind in post.hindered.values():
                    hindered[kind.code] = hindered.get(kind.code, 0) + 1
                kinds += post.hindered.values()
            for kind in kinds:
                if issubclass(kind, (IntegrityError, Unavailable)):
                    reason = reason or kind.code
            if self._open and not any(post.is_led for post, _ in self._open):
                reason = reason or ScopeSealed.code
            is_alive = elapsed_s() - self._seen_s < 6 * AWAKE_S
            is_ready = is_alive and not reason
            return Health(is_alive, is_ready, reason, counts, self._next_ns(), self._working(), hindered)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Rotate until `stop` is called.

        Raises:
            IntegrityError: The vault was altered or is older than it was; somebody must look at it.
            SecurecfgError: It cannot be opened for a reason that does not pass by itself.
        """
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                vault = self._open_vault()
            except (FileMissing, Sealed, Unavailable) as error:
                self._hold_on(error, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            try:
                with vault:
                    self._serve(vault)
            except (Sealed, Unavailable, VaultClosed) as error:
                self._hold_on(error, FIRST_PAUSE_S)

    def _hold_on(self, error: SecurecfgError, pause_s: float) -> None:
        """Wait until the vault is to be opened again, or somebody asks for that."""
        with self._wake:
            self._reason = error.code
        extra = {"event": "rotation.vault.unavailable", "code": error.code}
        _log.warning("the vault cannot be used for now", extra=extra)
        until = time.monotonic() + pause_s
        while not self._must_reload and (left_s := until - time.monotonic()) > 0:
            self._look_around()
            if self._stopping.wait(min(left_s, LOOKED_AT_S)):
                return
        self._must_reload = False

    def _look_around(self) -> None:
        with self._wake:
            self._seen_s = elapsed_s()

    def _serve(self, vault: Vault) -> None:
        """Rotate what is due in an open vault, until it is to end or the vault is to be opened again."""
        try:
            scopes = self._attend(vault)
            opened = self._one()
            revision = first = opened.store.revision()
            again_s = elapsed_s() + SCOPES_S
            while not self._stopping.is_set():
                for post, runner in list(self._open):
                    self._guarded(post, runner, post.take_back)
                if self._must_reload:
                    self._must_reload = False
                    if not vault.is_by_root:
                        return  # what its identity was granted or has lost is seen when it is opened again
                    scopes = self._attend(vault)
                self._begin()
                if vault.is_by_root:
                    self._look_at_keys(vault)
                is_partial = self._closed or not vault.is_by_root
                if is_partial and elapsed_s() > again_s and revision != first and not self._working():
                    return
                self._wait(opened, revision)
                if opened.store.revision() != revision:
                    revision = opened.store.revision()
                    self._follow()
                    if _scopes_of(vault) != scopes:
                        if not scopes:
                            return  # a handle on a vault without scopes knows of none that are made
                        scopes = self._attend(vault)
        finally:
            for _, runner in self._open:
                runner.stop()
            self._finish()
            self._open = []

    def _attend(self, vault: Vault) -> Mapping[str, object]:
        """Look at all rotations in all parts that are open now; return which scopes that includes."""
        if vault.is_by_root:
            vault.opened.refresh()
        scopes = _scopes_of(vault)
        former = {runner.vault: (post, runner) for post, runner in self._open}
        failures: dict[str, SecurecfgError] = {}
        found: list[tuple[Post, Runner]] = []
        for _, part in parts_of(vault, failures):
            found.append(former.pop(part) if part in former else self._take_up(part))
        for _, runner in former.values():
            runner.stop()
        for post in self._posts.values():
            if not any(post is one for one, _ in found):
                post.leave()  # of this opening of the vault, or of one before
        self._open = found
        if self._stopping.is_set():
            self.stop()  # which may have known none of them
        with self._wake:
            self._closed = {}
        for scope, failure in failures.items():
            self._close(scope, failure)
        for post, runner in found:
            self._guarded(post, runner, post.load)
        with self._wake:
            self._reason = ""
            self._seen_s = elapsed_s()
            count = sum(len(post.states) for post in self._posts.values())
        _log.info("knows what is to be rotated", extra={"event": "rotation.loaded", "count": count})
        return scopes

    def _take_up(self, part: Vault) -> tuple[Post, Runner]:
        id_ = part.opened.replica.vault_id
        post = self._posts.get(id_)
        if post is None:
            with self._wake:
                post = self._posts[id_] = Post(self._wake)
        leases = self._leases.setdefault(id_, Leases(lease_s=self._limits.lease_s))
        calls = self._calls.setdefault(id_, Calls(leases, Breakers(elapsed_s), self._pace))
        return post, Runner(part, leases=leases, calls=calls, observe=self._observe, find=self._find)

    def _guarded(self, post: Post, runner: Runner, look: Callable[[Runner], None]) -> None:
        """Look at a part; a sealed scope that has ended, or that is damaged, is left, and the others go on.

        Raises:
            Sealed: The key at hand does not open the part any more; what else it opens is seen by opening the vault.
            IntegrityError: The vault itself is not what it should be.
        """
        opened = runner.vault.opened
        try:
            look(runner)
        except IntegrityError as error:
            if opened.replica.seat is None:
                raise
            runner.stop()
            post.leave()
            self._open = [each for each in self._open if each[1] is not runner]
            if opened.has_head():  # else it was merged, and with it nothing that is rotated
                self._close(opened.replica.vault_id.hex(), error)

    def _close(self, scope: str, error: SecurecfgError) -> None:
        """Note that a scope is passed over until all is looked at anew."""
        with self._wake:
            self._closed[scope] = type(error)
        extra = {"event": "rotation.scope.unavailable", "code": error.code}
        _log.warning("a sealed scope cannot be used for now, and nothing is rotated in it", extra=extra)

    def _follow(self) -> None:
        for post, runner in list(self._open):
            self._guarded(post, runner, post.follow)
        self._one()  # where the last scope has ended, it is seen by opening the vault what else there is

    def _one(self) -> OpenVault:
        """Return an open part, for the store and the clock that all have.

        Raises:
            ScopeSealed: There is none.
        """
        if not self._open:
            message = "the key at hand opens no part of the vault in which anything could be rotated"
            raise ScopeSealed(message, hint="a role that reads and writes a sealed scope may be granted to it")
        return self._open[0][1].vault.opened

    def _wait(self, opened: OpenVault, revision: Hashable) -> None:
        """Wait until something is due, something has changed, or it is time to look around."""
        self._look_around()
        until = time.monotonic() + AWAKE_S
        while not self._stopping.is_set() and not self._must_reload and opened.store.revision() == revision:
            with self._wake:
                left_s, now_ns = until - time.monotonic(), opened.clock.now_ns()
                if now_ns < self._latest_ns - NS:
                    self._must_reload = True  # the clock was put back: moments that were noted lie too far ahead
                self._latest_ns = now_ns
                due_ns = self._next_ns()
                if due_ns is not None and self._working() < self._limits.workers:
                    left_s = min(left_s, (due_ns - now_ns) / NS)
                if left_s <= 0 or any(post.has_news for post, _ in self._open):
                    return
                self._wake.wait(min(left_s, LOOKED_AT_S))

    def _begin(self) -> None:
        """Begin what is due, the first ones first, wherever they are."""
        taken: list[tuple[Post, Runner, int]] = []
        with self._wake:
            free = self._limits.workers - self._working()
            while len(taken) < free and (first := self._first()) is not None:
                post, runner = first
                found = post.agenda.take(runner.vault.opened.clock.now_ns(), 1)
                if not found:
                    break
                post.working.update(found)
                taken += [(post, runner, record) for record in found]
        for post, runner, record in taken:
            post.start(runner, record)

    def _first(self) -> tuple[Post, Runner] | None:
        """Return where something is due first; the caller holds the lock."""
        moments = [(moment, place) for place in self._open if (moment := place[0].agenda.next_ns()) is not None]
        return min(moments, key=lambda each: each[0])[1] if moments else None

    def _next_ns(self) -> int | None:
        return min((moment for post, _ in self._open if (moment := post.agenda.next_ns()) is not None), default=None)

    def _working(self) -> int:
        """Return at how many rotations somebody works, be it in a part that was left."""
        return sum(len(post.working) for post in self._posts.values())

    def _look_at_keys(self, vault: Vault) -> None:
        """Replace the vault's own keys where they are due, in a thread of its own."""
        now_s = elapsed_s()
        if not self._limits.keys_s or self._is_at_keys or now_s < self._keys_s:
            return
        self._keys_s, self._is_at_keys = now_s + self._limits.keys_s, True
        threading.Thread(target=self._replace_keys, args=(vault,), name="securecfg-own-keys", daemon=True).start()

    def _replace_keys(self, vault: Vault) -> None:
        try:
            for subject in replace_due_keys(vault):
                _log.info("a key of the vault was replaced", extra={"event": "rotation.key.replaced", "kind": subject})
        except SecurecfgError as error:
            extra = {"event": "rotation.key.postponed", "code": error.code}
            _log.warning("the keys of the vault cannot be looked at for now", extra=extra)
        finally:
            self._is_at_keys = False

    def _finish(self) -> None:
        """Wait for the steps that are under way."""
        until = time.monotonic() + self._limits.stop_s
        with self._wake:
            while self._working() and (left := until - time.monotonic()) > 0:
                self._seen_s = elapsed_s()
                self._wake.wait(min(left, AWAKE_S))
            count = self._working()
        if count:
            extra = {"event": "rotation.left", "count": count}
            _log.warning("steps that are under way are left to whoever goes on", extra=extra)


def _scopes_of(vault: Vault) -> Mapping[str, object]:
    """Return what changes when scopes are made or merged; a member sees that only by opening the vault again."""
    registry = vault.opened.scopes() if vault.is_by_root else None
    return {} if registry is None else registry.scopes
