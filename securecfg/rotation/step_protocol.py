"""What programs and receivers of webhooks are told of a step, and what they answer: version 1, in JSON.

The protocol in full, for those who write them, is `docs/how-to/rotate-exec.md`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    RotationFailed,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.values import is_field_name
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.options import GivenOptions

VERSION = 1
ERRORS: Mapping[str, type[SecurecfgError]] = {
    each.code: each
    for each in (
        CandidateRejected,
        CredentialRefused,
        InvalidRotation,
        PrivilegeMissing,
        RotationFailed,
        TargetUnavailable,
    )
}
"""What may be answered as its `error`."""

_PREFIX = "option."
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


def split_options(rotator: str, options: Options) -> tuple[Options, Options]:
    """Return the options that are handed on, by their own names, and those for the rotator itself.

    Raises:
        InvalidRotation: One is called what no option is called.
    """
    own = {name.removeprefix(_PREFIX): each for name, each in options.items() if name.startswith(_PREFIX)}
    if all(map(_OPTION.fullmatch, own)):
        return own, {name: each for name, each in options.items() if not name.startswith(_PREFIX)}
    message = f"what the rotator `{rotator}` hands on is called `{_PREFIX}NAME`, a word"
    raise InvalidRotation(message)


class Terms(NamedTuple):
    """What those who do the steps are told of every rotation, and what they say of themselves.

    Attributes:
        strategy: What becomes of the old credential.
        identity: The fields that say who logs in where.
        options: What they are told, by their own names.
    """

    strategy: Strategy
    identity: frozenset[str]
    options: Options


def take_terms(given: GivenOptions, rotator: str, options: Options) -> Terms:
    """Return what the options `strategy` and `identity` say, with the options that are handed on.

    Raises:
        InvalidRotation: The strategy is none, or the identity is no names of fields.
    """
    strategy = Strategy(given.choice("strategy", [each.value for each in Strategy]))
    identity = frozenset(filter(None, given.text("identity", "").split(",")))
    if all(map(is_field_name, identity)):
        return Terms(strategy, identity, options)
    message = f"the option `identity` of the rotator `{rotator}` is names of fields, joined by commas"
    raise InvalidRotation(message)


class ForeignRotator(ABC):
    """Has a program or a service do each step, and understands what it answers.

    Args:
        target: What is called.
        who: Who does the steps, for errors.
        terms: What they are told.
    """

    def __init__(self, target: str, who: str, terms: Terms) -> None:
        """Call nothing yet."""
        self.target, self.strategy, self.identity = target, terms.strategy, terms.identity
        self._who, self._options = who, terms.options

    def propose(self, run: Run, /) -> Candidate:
        """Ask for a candidate.

        Raises:
            TargetUnavailable, PrivilegeMissing, InvalidRotation, RotationFailed: The answer says so, or is none.
        """
        candidate = parse_candidate(self._do("propose", run))
        if candidate is None:
            raise self._failure(RotationFailed, "proposes no value")
        return candidate

    def apply(self, run: Run, /) -> None:
        """Have the target made to accept the candidate.

        Raises:
            CandidateRejected, TargetUnavailable, CredentialRefused, PrivilegeMissing, RotationFailed: As for `propose`.
        """
        self._do("apply", run)

    def verify(self, value: Fields, run: Run, /) -> None:
        """Have a value tried.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable, RotationFailed: As for `propose`.
        """
        self._do("verify", run, value)

    def retire(self, run: Run, /) -> None:
        """Have the target made to refuse the old value.

        Raises:
            TargetUnavailable, CredentialRefused, PrivilegeMissing, RotationFailed: As for `propose`.
        """
        self._do("retire", run)

    @abstractmethod
    def _do(self, step: str, run: Run, value: Fields | None = None) -> dict[str, Any]:
        """Have a step done, and return the answer that says that it is."""

    def _failure(self, kind: type[SecurecfgError], what: str) -> SecurecfgError:
        return kind(f"{self._who} {what}", hint="its own log may say more")


def told_of(step: str, run: Run, options: Options) -> dict[str, object]:
    """Return what is told of a step, without any value of a secret."""
    plain = {name: each for name, each in options.items() if isinstance(each, str)}
    return {
        "v": VERSION,
        "step": step,
        "token": run.token,
        "since": run.since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "timeout_s": run.timeout_s,
        "options": plain,
    }


def values_of(run: Run, options: Options, value: Fields | None) -> dict[str, object]:
    """Return the values of a step.

    Args:
        run: The run.
        options: Of which those that are secret are meant.
        value: The one to try, None where none is tried.
    """
    return {
        "v": VERSION,
        "current": _shown(run.current),
        "previous": _shown(run.previous),
        "pending": _shown(run.pending),
        "options": _shown({name: each for name, each in options.items() if isinstance(each, Secret)}),
        **({} if value is None else {"value": _shown(value)}),
    }


def to_json(document: object) -> bytes:
    """Return a document in one line, with surrogates as escapes, so that any text of a vault can be told."""
    return json.dumps(document, separators=(",", ":")).encode()


def _shown(value: Mapping[str, Secret[str] | Secret[bytes] | str] | None) -> dict[str, object] | None:
    if value is None:
        return None
    shown: dict[str, object] = {}
    for name, secret in value.items():
        content = secret.reveal() if isinstance(secret, Secret) else secret
        shown[name] = content if isinstance(content, str) else {"base64": base64.b64encode(content).decode()}
    return shown


def parse_answer(printed: bytes) -> dict[str, Any] | None:
    """Return an answer of this version, None where it is none."""
    try:
        answer = json.loads(printed)
    except (ValueError, RecursionError):
        return None
    known = {"v", "value", "ends", "error"}
    is_one = isinstance(answer, dict) and type(answer.get("v")) is int and answer["v"] == VERSION
    return answer if is_one and answer.keys() <= known else None


def is_done(answer: Mapping[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Return whether an answer says that its step is done."""
    return answer is not None and "error" not in answer


def error_of(answer: Mapping[str, Any] | None) -> type[SecurecfgError] | None:
    """Return the error that an answer says, None where it says none that there is."""
    said = None if answer is None else answer.get("error")
    return ERRORS.get(said) if isinstance(said, str) else None


def parse_candidate(answer: Mapping[str, Any]) -> Candidate | None:
    """Return the candidate of an answer, None where there is none."""
    value, ends = _parse_value(answer.get("value")), _parse_time(answer.get("ends"))
    return None if value is None or (ends is None and "ends" in answer) else Candidate(value, ends)


def _parse_value(value: object) -> Secret[str] | Secret[bytes] | dict[str, Secret[str] | Secret[bytes]] | None:
    """Return a value with fields, or what stands under the empty name; None where it is none."""
    if not isinstance(value, dict) or not value:
        return None
    fields = {name: content for name, each in value.items() if (content := _parse_content(each)) is not None}
    if len(fields) < len(value):
        return None
    if "" in fields:
        return fields[""] if len(fields) == 1 else None
    return fields


def _parse_content(content: object) -> Secret[str] | Secret[bytes] | None:
    if isinstance(content, str):
        return Secret(content) if content.isascii() or not _SURROGATE.search(content) else None
    if isinstance(content, dict) and content.keys() == {"base64"} and isinstance(content["base64"], str):
        with suppress(binascii.Error, ValueError):
            return Secret(base64.b64decode(content["base64"], validate=True))
    return None


def _parse_time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):  # the first hours of the year 1, east of Greenwich
        return None
