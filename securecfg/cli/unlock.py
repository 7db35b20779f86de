"""`securecfg unlock`: spare repeated passphrases for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from securecfg.cli.arguments import Duration
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp
from securecfg.errors import UsageError

_LONGEST = timedelta(hours=24)
_SCHEMES = frozenset({"passphrase", "passphrase+file"})


@click.command(
    cls=Verb,
    examples=("securecfg unlock --for 15m", "securecfg unlock --status", "securecfg unlock --forget"),
)
@click.option("--for", "span", type=Duration(), default="15m", metavar="DURATION", help="How long; 15m if not given.")
@click.option("--status", "is_status", is_flag=True, help="Show what is unlocked and until when.")
@click.option("--forget", "is_forgetting", is_flag=True, help="Forget all that is unlocked, at once.")
@common_flags
def unlock(invocation: Invocation, *, span: timedelta, is_status: bool, is_forgetting: bool) -> None:
    """Ask for the vault's passphrase once, and use it without asking for a while.

    The key is kept in the kernel's keyring of this user, or where there is none in the memory of a process of this
    user; never on disk. Every program of this user can use it until then.
    """
    if is_status and is_forgetting:
        message = "`--status` and `--forget` exclude each other"
        raise UsageError(message, hint="after `--forget` nothing is unlocked")
    if is_forgetting:
        _forget(invocation)
    elif is_status:
        _show(invocation)
    else:
        _unlock(invocation, span)


def _unlock(invocation: Invocation, span: timedelta) -> None:
    import time

    from securecfg.cli.remembered import Remembering, memories
    from securecfg.keys import open_provider
    from securecfg.vault import Vault

    if not timedelta() < span <= _LONGEST:
        message = "a vault is unlocked for at least a second and at most 24 hours"
        raise UsageError(message, hint="for instance `--for 15m`")
    settings = invocation.settings()
    provider = open_provider(settings.key, ask=invocation.ask)
    if provider.scheme not in _SCHEMES:
        message = f"a `{provider.scheme}:` key asks nobody, so there is nothing to spare"
        raise UsageError(message, hint="`--key passphrase:` names a slot with a passphrase")
    seconds = int(span.total_seconds())
    end_s = int(time.time()) + seconds
    remembering = Remembering(provider, memories(), end_s=end_s, seconds=seconds)
    with Vault.open(settings.vault, key=remembering, principal=settings.principal) as vault:
        vault_id = vault.opened.replica.vault_id.hex()
    end = datetime.fromtimestamp(end_s, UTC)
    invocation.emit(
        {"id": vault_id, "until": timestamp(end), "where": remembering.where},
        f"unlocked  {settings.vault}   until  {shown_time(end)}   in  {remembering.where}",
    )


def _show(invocation: Invocation) -> None:
    from securecfg.cli.remembered import memories, remembered

    kept = [(name, datetime.fromtimestamp(end, UTC), where) for name, end, where in remembered(memories())]
    result = {"unlocked": [{"id": name, "until": timestamp(end), "where": where} for name, end, where in kept]}
    if kept or invocation.is_json:
        invocation.emit_table(
            result, ("VAULT ID", "UNTIL", "WHERE"), [(name, shown_time(end), where) for name, end, where in kept]
        )
    else:
        invocation.emit(result, "nothing is unlocked")


def _forget(invocation: Invocation) -> None:
    from securecfg.cli.remembered import memories

    count = sum(place.forget() for place in memories())
    invocation.emit({"forgotten": count}, f"forgotten  {count}")
