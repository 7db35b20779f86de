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
from securecfg.rotation.http_target import OK, ask, is_absolute, is_disturbed, take_address
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.step_protocol import (
    ForeignRotator,
    error_of,
    is_done,
    parse_answer,
    split_options,
    take_terms,
    to_json,
    told_of,
    values_of,
)
from securecfg.rotation.webhook import parse_webhook_secret, sign_webhook

if TYPE_CHECKING:
    from securecfg.http_client import Answer
    from securecfg.rotation.http_target import Address
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.step_protocol import Terms
    from securecfg.secret import Secret

_NOT_TAKEN = frozenset({401, 403})


class WebhookRotator(ForeignRotator):
    """Has a service do each step.

    Args:
        address: Where it listens.
        secret: What it knows us by, `whsec_...`.
        terms: What it is told.
        authority: The file of the authority of its certificate, or empty.
    """

    def __init__(self, address: Address, secret: Secret[str], terms: Terms, authority: str) -> None:
        """Send nothing yet."""
        super().__init__(f"webhook {address.host}", f"the server `{address.host}`", terms)
        self._address, self._secret, self._authority = address, secret, authority

    def _do(self, step: str, run: Run, value: Fields | None = None) -> dict[str, Any]:
        deadline = Deadline(run.timeout_s, self.target)
        told = {**told_of(step, run, self._options), "values": values_of(run, self._options, value)}
        body, key = to_json(told), parse_webhook_secret(self._secret)
        signed = sign_webhook(f"msg_{secrets.token_hex(16)}", body, key, now=datetime.now(UTC))
        headers = {"Content-Type": "application/json", "Accept": "application/json", **signed}
        request = Request("POST", self._address.target, headers, body)
        return self._understand(ask(self._address.endpoint, request, deadline, self._authority))

    def _understand(self, answered: Answer) -> dict[str, Any]:
        status = answered.status
        answer = parse_answer(answered.body) if status in OK else None
        kind: type[SecurecfgError] = RotationFailed
        if said := error_of(answer):
            kind, what = said, f"says `{said.code}`"
        elif is_done(answer):
            return answer
        elif status in _NOT_TAKEN:
            # Never as `credential-refused`: that would say of the value what is true of the signature.
            kind, what = PrivilegeMissing, f"does not take the signature (HTTP {status})"
        elif is_disturbed(answered):
            kind, what = TargetUnavailable, f"is disturbed or busy (HTTP {status})"
        elif status in OK:
            what = "gave no answer of version 1"
        else:
            what = f"refuses the step (HTTP {status})"
        raise self._failure(kind, what)


def from_options(options: Options) -> WebhookRotator:
    """Return the rotator `webhook`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    own, rest = split_options("webhook", options)
    given = GivenOptions("webhook", rest)
    address, secret = take_address(given, "webhook", "url"), given.secret("secret")
    terms = take_terms(given, "webhook", own)
    authority = given.text("cacert", "")
    given.finish()
    if secret is None:
        message = "the option `secret` of the rotator `webhook` is needed"
        raise InvalidRotation(message, hint="a reference such as `${secret:hooks/rotation}`")
    parse_webhook_secret(secret)
    if authority and not is_absolute(authority):
        message = "the option `cacert` of the rotator `webhook` is an absolute path"
        raise InvalidRotation(message)
    return WebhookRotator(address, secret, terms, authority)
