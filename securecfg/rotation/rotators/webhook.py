"""Credentials that a service of somebody else's knows how to rotate: each step is a signed request to it.

A request is a POST with what the rotator `exec` tells a program, the values besides; the answer is what a program
answers. It is signed as `securecfg.rotation.webhook` says, and goes over TLS, or to this machine itself. Each request
has an id and a time of its own, so that a receiver may refuse one that comes twice; a step is repeated by the runner.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from securecfg.errors import InvalidRotation, PrivilegeMissing, RotationFailed, SecurecfgError, TargetUnavailable
from securecfg.http_client import Request
from securecfg.rotation.deadline import Deadline
from securecfg.rotation.http_target import ask, take_address
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.step_protocol import (
    ERRORS,
    parse_answer,
    parse_candidate,
    split_options,
    take_identity,
    take_strategy,
    to_json,
    told_of,
    values_of,
)
from securecfg.rotation.webhook import parse_webhook_secret, sign_webhook

if TYPE_CHECKING:
    from securecfg.rotation.http_target import Address
    from securecfg.rotation.interface import Candidate, Fields, Options, Run, Strategy
    from securecfg.secret import Secret

_OK = range(200, 300)
_NOT_TAKEN = frozenset({401, 403})
_PASSING = frozenset({408, 421, 425, 429})
_SERVER_ERRORS = 500


class WebhookRotator:
    """Has a service do each step.

    Args:
        address: Where it listens.
        secret: What it knows us by, `whsec_...`.
        strategy: What becomes of the old credential, as the service does it.
        identity: The fields that say who logs in where.
        options: What the service is told.
        authority: The file of the authority of its certificate, or empty.
    """

    def __init__(  # noqa: PLR0917 - the factory below is the only caller
        self,
        address: Address,
        secret: Secret[str],
        strategy: Strategy,
        identity: frozenset[str],
        options: Options,
        authority: str,
    ) -> None:
        """Send nothing yet."""
        self.strategy, self.identity = strategy, identity
        self._address, self._secret, self._options, self._authority = address, secret, options, authority

    @property
    def target(self) -> str:
        """The host that listens."""
        return f"webhook {self._address.host}"

    def propose(self, run: Run, /) -> Candidate:
        """Ask the service for a candidate.

        Raises:
            TargetUnavailable, PrivilegeMissing, InvalidRotation, RotationFailed: It says so, or does not do its part.
        """
        candidate = parse_candidate(self._do("propose", run))
        if candidate is None:
            message = f"the server `{self._address.host}` proposes no value"
            raise RotationFailed(message)
        return candidate

    def apply(self, run: Run, /) -> None:
        """Have the service make its target accept the candidate.

        Raises:
            CandidateRejected, TargetUnavailable, CredentialRefused, PrivilegeMissing, RotationFailed: It says so.
        """
        self._do("apply", run)

    def verify(self, value: Fields, run: Run, /) -> None:
        """Have the service try a value.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable, RotationFailed: It says so.
        """
        self._do("verify", run, value)

    def retire(self, run: Run, /) -> None:
        """Have the service make its target refuse the old value.

        Raises:
            TargetUnavailable, CredentialRefused, PrivilegeMissing, RotationFailed: It says so.
        """
        self._do("retire", run)

    def _do(self, step: str, run: Run, value: Fields | None = None) -> dict[str, Any]:
        deadline = Deadline(run.timeout_s, self.target)
        told = {**told_of(step, run, self._options), "values": values_of(run, self._options, value)}
        body, key = to_json(told), parse_webhook_secret(self._secret)
        signed = sign_webhook(f"msg_{secrets.token_hex(16)}", body, key, now=datetime.now(UTC))
        headers = {"Content-Type": "application/json", "Accept": "application/json", **signed}
        request = Request("POST", self._address.target, headers, body)
        answer = ask(self._address.endpoint, request, deadline, self._authority)
        kind: type[SecurecfgError] = RotationFailed
        found = parse_answer(answer.body) if answer.status in _OK else None
        said = None if found is None else found.get("error")
        if isinstance(said, str) and said in ERRORS:
            kind, what = ERRORS[said], f"says `{said}`"
        elif found is not None and "error" not in found:
            return found
        elif answer.status in _NOT_TAKEN:
            # Never as `credential-refused`: that would say of the value what is true of the signature.
            kind, what = PrivilegeMissing, f"does not take the signature (HTTP {answer.status})"
        elif answer.status in _PASSING or answer.status >= _SERVER_ERRORS:
            kind, what = TargetUnavailable, f"is disturbed or busy (HTTP {answer.status})"
        elif answer.status in _OK:
            what = "gave no answer of version 1"
        else:
            what = f"refuses the step (HTTP {answer.status})"
        message = f"the server `{self._address.host}` {what}"
        raise kind(message, hint="its own log may say more")


def from_options(options: Options) -> WebhookRotator:
    """Return the rotator `webhook`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    own, rest = split_options("webhook", options)
    given = GivenOptions("webhook", rest)
    address, secret = take_address(given, "webhook", "url"), given.secret("secret")
    strategy, identity = take_strategy(given), take_identity(given, "webhook")
    authority = given.text("cacert", "")
    given.finish()
    if secret is None:
        message = "the option `secret` of the rotator `webhook` is needed"
        raise InvalidRotation(message, hint="a reference such as `${secret:hooks/rotation}`")
    parse_webhook_secret(secret)
    if authority and not (authority.startswith("/") and authority.isprintable()):
        message = "the option `cacert` of the rotator `webhook` is an absolute path"
        raise InvalidRotation(message)
    return WebhookRotator(address, secret, strategy, identity, own, authority)
