"""What a rotator is: the contract between the runner, the same for all, and whoever knows one kind of credential.

The whole of it, with what is not in types, is `docs/security/rotation.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Fields = Mapping[str, Secret[str] | Secret[bytes]]
"""The value of one version: its fields, or under `""` alone what has no fields."""

Options = Mapping[str, str | Secret[str] | Secret[bytes]]
"""What a rotator is told: plain text, and a `Secret` where the option was a reference such as `${secret:db/admin}`."""


class Strategy(StrEnum):
    """What the old credential is good for once there is a new one."""

    SINGLE_SLOT = "single-slot"  # nothing: who still uses it is cut off, which has to be acknowledged
    TWO_USERS = "two-users"  # another login takes turns with it, which is left alone until it is its turn
    OVERLAPPING = "overlapping"  # both are good until the old one is revoked
    LEASED = "leased"  # as overlapping, and each ends by itself


class Run(NamedTuple):
    """One rotation of one secret, as a rotator sees it.

    Attributes:
        token: 32 hexadecimal digits; the same for each attempt, another for each candidate.
        since: When this token was noted down, aware and in UTC; nothing was asked of the target under it before.
        timeout_s: How long the call may take.
        current: What readers get; None before the first version.
        previous: What they got before, as long as it is not retired.
        pending: The candidate; None until there is one.
    """

    token: str
    since: datetime
    timeout_s: float
    current: Fields | None = None
    previous: Fields | None = None
    pending: Fields | None = None


class Candidate(NamedTuple):
    """What a rotator proposes.

    Attributes:
        value: Text, bytes, or all fields of the new version, those that stay the same too.
        ends: When it ends by itself, aware and in UTC; None where it does not.
    """

    value: Secret[str] | Secret[bytes] | Fields
    ends: datetime | None = None


class Rotator(Protocol):
    """Knows one kind of credential at one target. Each method does its work once, without waiting or repeating.

    Obligations, held by `RotatorConformance` of `securecfg.testing.rotator_conformance`, are those of section 6 of the
    contract: whatever a call has come to, the same call with the same run may follow; no error holds a value.
    One object is used by one thread at a time.

    Attributes:
        strategy: What becomes of the old credential.
        target: What is called, such as `postgresql db.example:5432`: calls are limited for each. Holds no secret.
        identity: The fields that say who logs in where. Those of a candidate are those of the current version.
    """

    @property
    def strategy(self) -> Strategy:
        """What becomes of the old credential."""
        ...

    @property
    def target(self) -> str:
        """What is called."""
        ...

    @property
    def identity(self) -> frozenset[str]:
        """The fields that say who logs in where."""
        ...

    def propose(self, run: Run, /) -> Candidate:
        """Return a candidate. Only where the target issues credentials is it asked for one.

        Then the same call again removes what the former one has left and nobody has stored.

        Raises:
            TargetUnavailable, PrivilegeMissing: The target was asked, and issues none.
            InvalidRotation: The current value lacks what a candidate is made from.
        """
        ...

    def apply(self, run: Run, /) -> None:
        """Make the target accept `run.pending`; nothing where it does so already.

        Raises:
            CandidateRejected: The target will not have this one; another may do.
            TargetUnavailable: It cannot be asked, or it is unknown whether it was done.
            CredentialRefused: What this rotator logs in with is refused.
            PrivilegeMissing: That may not do it.
        """
        ...

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that the target accepts a value, and that what logs in with it can do what it is for.

        Raises:
            CredentialRefused: The target does not accept it.
            PrivilegeMissing: It does, but what it is for cannot be done with it.
            TargetUnavailable: The target cannot be asked.
        """
        ...

    def retire(self, run: Run, /) -> None:
        """Make the target refuse `run.previous`, where it does not yet, and never `run.current`.

        Raises:
            TargetUnavailable, CredentialRefused, PrivilegeMissing: As for `apply`.
        """
        ...


@runtime_checkable
class ChecksPrivileges(Protocol):
    """A rotator that can tell before the first rotation what it will be missing."""

    def check(self, run: Run, /) -> Sequence[str]:
        """Return what is missing, in words for people and without a secret; empty where all is there. Changes nothing.

        Raises:
            TargetUnavailable, CredentialRefused: The target cannot be asked.
        """
        ...


RotatorFactory = Callable[[Options], Rotator]
"""Found by name in the entry point group `securecfg.rotators`. Calls nothing; `InvalidRotation` for wrong options."""
