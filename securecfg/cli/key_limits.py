"""`securecfg key usage` and `policy`: how old and how used the keys are, and what they may come to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.arguments import Duration, Number
from securecfg.cli.groups import Noun, Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp
from securecfg.errors import UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault.keys.limits import KeyLimits, Limit
    from securecfg.vault.keys.usage import KeyUse

_COUNTED = ("scope", "log-signing")
_ROWS = ("scope", "value")
_MANY = 1 << 32


@click.group(cls=Noun)
def policy() -> None:
    """Say how old keys may become and how much they may be used; `key usage` and `doctor` compare with it.

    It is kept in the vault. It refuses nothing: whoever looks is told in time, from four fifths on.
    """


@policy.command(
    "set",
    examples=(
        "securecfg key policy set scope --max-age 90d",
        "securecfg key policy set log-signing --max-uses 100000",
        "securecfg key policy set slot:passphrase --max-age 180d   # slots of this kind; `slot` is for all others",
    ),
)
@click.argument("subject", metavar="KEY")
@click.option("--max-age", type=Duration(), metavar="DURATION", help="How old it may become, such as 90d.")
@click.option("--max-uses", type=Number(), metavar="N", help="How many rows it may seal, or records sign.")
@common_flags
def set_(invocation: Invocation, *, subject: str, max_age: timedelta | None, max_uses: int | None) -> None:
    """Set the limits of a key: `scope`, `log-signing`, `audit`, `masking`, `slot` or `slot:KIND`.

    What is not given has no limit but that of the algorithm.
    """
    from securecfg.vault.keys.limits import Limit, set_limit
    from securecfg.vault.keys.slots import Slots

    if max_age is None and max_uses is None:
        message = "a limit of age or of uses is given"
        raise UsageError(message, hint="`--max-age 90d`, or `securecfg key policy unset KEY` for none")
    limit = Limit(max_age, max_uses)
    with invocation.open() as vault:
        set_limit(vault.authority, subject, limit)
        kinds = {slot.kind for slot in Slots(vault.authority).list()}
    if subject.startswith("slot:") and subject.partition(":")[2] not in kinds:
        invocation.note(
            f"warning: no slot is of this kind now; there are {', '.join(f'`slot:{kind}`' for kind in sorted(kinds))}"
        )
    invocation.emit({"key": subject} | _to_json(limit), f"limited  {subject}   {_shown(limit)}")


@policy.command("unset", examples=("securecfg key policy unset scope",))
@click.argument("subject", metavar="KEY")
@common_flags
def unset(invocation: Invocation, *, subject: str) -> None:
    """Take away the limits that were set for a key; those of its algorithm stay."""
    from securecfg.vault.keys.limits import Limit, set_limit

    with invocation.open() as vault:
        set_limit(vault.authority, subject, Limit())
    invocation.emit({"key": subject}, f"unlimited  {subject}")


@policy.command("show", examples=("securecfg key policy show",))
@common_flags
def show(invocation: Invocation) -> None:
    """Show the limits of all keys: those that were set, and those that hold anyway."""
    from securecfg.vault.keys.limits import read_limits

    with invocation.open() as vault:
        vault.authority.require("key.manage", "")
        limits = read_limits(vault.opened)
    shown = [(subject, limits.of(subject), subject in limits.own) for subject in _subjects(limits)]
    invocation.emit_table(
        {"limits": [{"key": subject, "is_set": is_set} | _to_json(limit) for subject, limit, is_set in shown]},
        ("KEY", "LIMIT", "FROM"),
        [(subject, _shown(limit), "this vault" if is_set else "the default") for subject, limit, is_set in shown],
    )


@click.command(cls=Verb, examples=("securecfg key usage", "securecfg key usage --json", "securecfg key usage payments"))
@click.argument("path", default="")
@common_flags
def usage(invocation: Invocation, *, path: str) -> None:
    """List the keys inside the vault and its slots: how old each is, what it is used for, and how near its limits.

    Rows are those that a key sealed and that are there; records are those that it signed. With the PATH of a sealed
    scope the keys are those of the scope.
    """
    from securecfg.vault.keys.usage import look_at_keys

    with invocation.open() as vault:
        authority = vault.scope(path).authority if path else vault.authority
        authority.require("key.manage", "")
        keys = look_at_keys(authority, _COUNTED)
    invocation.emit_table(
        {
            "keys": [
                {"purpose": key.subject, "epoch": key.number, "is_active": key.is_active}
                | {"created": timestamp(key.created)}
                | {"rows": key.uses if key.subject in _ROWS else None}
                | {"records": key.uses if key.subject == "log-signing" and key.is_active else None}
                | _age_to_json(key)
                | {"uses_share": key.uses_share}
                for key in keys
                if not key.is_slot
            ],
            "slots": [
                {"slot": key.number, "kind": key.subject.partition(":")[2], "added": timestamp(key.created)}
                | _age_to_json(key)
                for key in keys
                if key.is_slot
            ],
        },
        ("KEY", "EPOCH", "STATE", "SINCE", "AGE", "USED", "OF ITS LIMIT"),
        [
            (
                f"slot {key.number} {key.subject.partition(':')[2]}" if key.is_slot else key.subject,
                "" if key.is_slot else str(key.number),
                "" if key.is_slot else "in use" if key.is_active else "opens only",
                shown_time(key.created),
                shown_age(key.age),
                _used(key),
                ", ".join(shares_of(key)),
            )
            for key in keys
        ],
        shorten=("SINCE",),
    )


def shares_of(key: KeyUse) -> Iterator[str]:
    """Yield how much a key has reached of each of its limits."""
    if key.age_share is not None:
        yield f"{key.age_share:.0%} of {shown_age(key.limit.max_age or timedelta())}"
    if key.uses_share is not None and key.limit.max_uses is not None:
        yield f"{key.uses_share:.0%} of {shown_uses(key.limit.max_uses)} {_unit(key.subject)}"


def shown_age(age: timedelta) -> str:
    """Return a span as people read it."""
    hours = int(age.total_seconds()) // 3_600
    return counted(age.days, "day") if age.days else counted(hours, "hour") if hours else f"{age.seconds // 60} min"


def shown_uses(number: int) -> str:
    """Return a limit of uses as people read it: the very large ones are powers of two."""
    return f"2^{number.bit_length() - 1}" if number >= _MANY and number.bit_count() == 1 else str(number)


def _unit(subject: str) -> str:
    return "rows" if subject in _ROWS else "records"


def _used(key: KeyUse) -> str:
    return "" if key.uses is None or not (key.is_active or key.uses) else counted(key.uses, _unit(key.subject)[:-1])


def _subjects(limits: KeyLimits) -> list[str]:
    from securecfg.vault.keys.limits import ANY_SLOT, PURPOSES

    return [*PURPOSES, ANY_SLOT, *sorted(set(limits.own) - {*PURPOSES, ANY_SLOT})]


def _shown(limit: Limit) -> str:
    age = [] if limit.max_age is None else [f"at most {shown_age(limit.max_age)} old"]
    return (
        ", ".join([*age, *([] if limit.max_uses is None else [f"at most {shown_uses(limit.max_uses)} uses"])]) or "none"
    )


def _to_json(limit: Limit) -> dict[str, Any]:
    age = None if limit.max_age is None else int(limit.max_age.total_seconds())
    return {"max_age_s": age, "max_uses": limit.max_uses}


def _age_to_json(key: KeyUse) -> dict[str, Any]:
    return {"age_s": int(key.age.total_seconds()), "age_share": key.age_share} | _to_json(key.limit)
