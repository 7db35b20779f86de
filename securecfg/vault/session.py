"""Who asks, and may they: the first two steps of every access."""

from __future__ import annotations

import os
import sys
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from securecfg.audit import Event, Record, Source, Subject
from securecfg.clock import to_datetime
from securecfg.errors import AccessDenied, DeniedByPolicyError, NotAuthenticated
from securecfg.policy import Request
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.audit import Masker
    from securecfg.clock import Clock
    from securecfg.policy import Decision, Policy

_SENSITIVE = frozenset({"source", "ip", "email", "session", "token", "user_agent"})
_DECISIONS_MAX = 100_000


class Identity(NamedTuple):
    """Who asks, as the host program opened the vault or said with `acting`.

    Attributes:
        principal: `user:NAME` or `svc:NAME`; empty where nobody said.
        is_proved: An identity key proved it; otherwise the host asserts it.
        slot: The unlock slot of the session, in hexadecimal digits.
        via: The session's own principal where it acts for another.
        context: What the host says of the request.
    """

    principal: str
    is_proved: bool = False
    slot: str = ""
    via: str = ""
    context: Mapping[str, object] = MappingProxyType({})


class Session:
    """Decides for one identity under one policy, and words the records about it.

    A new policy makes a new session, so a cached decision never outlives its policy.

    Args:
        identity: Who asks.
        policy: What decides.
        masker: Masks what records may not show.
        clock: For rules that mention time.
        clock_trusted: Whether the clock agrees with the log.
    """

    def __init__(
        self, identity: Identity, policy: Policy, masker: Masker, clock: Clock, *, clock_trusted: bool
    ) -> None:
        """Nothing is decided yet."""
        self.identity = identity
        self.policy = policy
        self._clock = clock
        self._clock_trusted = clock_trusted
        self._decisions: dict[tuple[str, str], Decision] = {}
        self.subject = Subject(
            identity.principal,
            is_proved=identity.is_proved,
            roles=tuple(sorted(policy.roles_of(identity.principal))),
            slot=identity.slot,
            via=identity.via,
        )
        self._context = masker.mask_context(identity.context, _SENSITIVE)  # type: ignore[arg-type]  # checked by Record
        self._source = Source(os.getpid(), _program(), masker.mask("host", os.uname().nodename))

    def decide(self, action: str, path: str) -> Decision:
        """Return whether an action is allowed.

        Raises:
            NotAuthenticated: Nobody says who asks.
        """
        key = (action, path)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self.policy.decide(self.request(action, path))
            if decision.cacheable:
                if len(self._decisions) >= _DECISIONS_MAX:
                    self._decisions.clear()
                self._decisions[key] = decision
        return decision

    def decide_many(self, action: str, paths: list[str]) -> list[bool]:
        """Return which of many paths an action is allowed on.

        Raises:
            NotAuthenticated: Nobody says who asks.
        """
        return self.policy.decide_many(self.request(action, ""), paths)

    def request(self, action: str, path: str) -> Request:
        """Return the question for the policy.

        Raises:
            NotAuthenticated: Nobody says who asks.
        """
        identity = self.identity
        if not identity.principal:
            message = "nobody says who is asking"
            hint = "name a principal: `--as user:NAME`, SECURECFG_AS, or `principal=` in a program"
            raise NotAuthenticated(message, hint=hint)
        return Request(
            identity.principal,
            action,
            path,
            identity.context,
            to_datetime(self._clock.now_ns()),
            frozenset(),
            self._clock_trusted,
        )

    def record(
        self,
        event: Event,
        obj: Mapping[str, object],
        *,
        decision: Decision | None = None,
        request_id: str = "",
        count: int | None = None,
        note: str = "",
    ) -> Record:
        """Return the record of an event of this session."""
        return Record(
            time_ns=self._clock.now_ns(),
            event=event,
            subject=self.subject,
            source=self._source,
            obj=obj,
            why=decision.rules if decision is not None else (),
            policy=self.policy.digest,
            context=self._context,
            request_id=request_id,
            count=count,
            note=note,
        )

    def denial(self, action: str, path: str, decision: Decision) -> tuple[Record, AccessDenied]:
        """Return the record of a denial and the error for the caller."""
        obj = {"action": action, "path": path} if path else {"action": action}
        where = f" `{path}`" if path else ""
        who = self.identity.principal
        if decision.error is not None:
            error: AccessDenied = DeniedByPolicyError(
                f"`{who}` may not {action}{where}: the policy cannot be evaluated",
                hint=f"`securecfg policy explain {action} {path} --principal {who}` says why",
            )
            obj["reason"] = decision.error
            return self.record(Event.ACCESS_ERROR, obj, decision=decision), error
        error = AccessDenied(f"`{who}` may not {action}{where}", hint=_denied_hint(action, path, who))
        return self.record(Event.ACCESS_DENIED, obj, decision=decision), error


def _denied_hint(action: str, path: str, who: str) -> str:
    target = f" {path}" if path else ""
    return f"`securecfg policy explain {action}{target} --principal {who}` says what is needed"


@cache
def _program() -> str:
    return os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - without `pathlib`, as the store
