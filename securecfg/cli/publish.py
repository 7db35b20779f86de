"""`securecfg vault publish`: what a role may read, as a file for places that cannot hold a vault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Duration
from securecfg.cli.groups import Verb
from securecfg.cli.identity import grouped
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp
from securecfg.errors import UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

    from securecfg.vault.bundles.publishing import Published


@click.command(
    "publish",
    cls=Verb,
    examples=(
        "securecfg vault publish --for web -o web.sealed",
        "securecfg vault publish --for web -o web.sealed --ttl 7d --yes     # replaces the file",
        "securecfg vault publish --for web -o web.sealed --key identity:web.identity    # without the root",
        "securecfg vault publish --for web --since web.sealed -o web.sealed.1    # only what changed",
        "securecfg run --vault web.sealed --key identity:web.identity --audit-sink file:reads.sink -- ./server",
    ),
)
@click.option("--for", "role", metavar="ROLE", required=True, help="Whose members it is sealed to.")
@click.option("--out", "-o", metavar="FILE", help="Where to.")
@click.option("--ttl", type=Duration(), default="30d", show_default=True, help="How long it may be used.")
@click.option("--since", metavar="FILE", help="Leave out the values that this earlier bundle of the role holds.")
@click.option("--partial", is_flag=True, help="Leave out sealed scopes of the role that this key cannot publish.")
@click.option("--from", "first_scope", metavar="SCOPE", default="", help="Without the root: whose log vouches for it.")
@click.option("--dry-run", is_flag=True, help="Only say what would be in it, and for whom.")
@common_flags
def publish(
    invocation: Invocation,
    *,
    role: str,
    out: str | None,
    ttl: timedelta,
    since: str | None,
    partial: bool,
    first_scope: str,
    dry_run: bool,
) -> None:
    """Write a bundle: what ROLE may read now, signed, and sealed to those of its members whose public keys are known.

    It is read as a vault is, with the `identity:` of a member, until it expires; every read is recorded in a sink, and
    `securecfg audit merge` brings those records into the log. You need the right to list, read and export all that is
    in it. What changes in the vault later reaches nobody until it is published again.
    """
    from securecfg.vault.bundles.publishing import Bundles
    from securecfg.vault.kinds import is_bundle

    if out is None and not dry_run:
        message = "nothing says where the bundle goes"
        raise UsageError(message, hint="give `-o FILE`, or `--dry-run` to see what would be in it")
    if out is not None and since is not None and Path(out).resolve() == Path(since).resolve():
        message = "a bundle cannot take the place of the one that it builds on"
        raise UsageError(message, hint=f"give the name under which it is found beside it: `-o {since}.1`")
    with invocation.open() as vault:
        bundles = Bundles.over(vault, first_scope)
        if out is None or dry_run:
            _emit(invocation, bundles.plan(role, ttl, is_partial=partial), None)
            return
        is_there = is_bundle(out) and not Path(out).is_symlink()
        if is_there:
            bundles.plan(role, ttl, is_partial=partial)
            invocation.confirm(f"Replace `{out}`?")
        done = bundles.publish(role, out, ttl=ttl, since=since, replace=is_there, is_partial=partial)
    _emit(invocation, done, out)


def _emit(invocation: Invocation, done: Published, out: str | None) -> None:
    result: dict[str, Any] = {
        "role": done.role,
        "secrets": list(done.paths),
        "recipients": [{"principal": name, "fingerprint": text} for name, text in done.recipients.items()],
        "without_key": list(done.without_key),
        "expired": list(done.expired),
        "scopes": list(done.scopes),
        "left_out": list(done.left_out),
        "expires": timestamp(done.expires),
        "is_done": out is not None,
    }
    count = counted(len(done.paths), "secret")
    if out is None:
        lines = [f"would publish  {count} for {done.role}   until  {shown_time(done.expires)}"]
        lines += [f"secret     {path}" for path in done.paths]
    else:
        result |= {
            "path": out,
            "serial": done.serial,
            "issuer": done.issuer,
            "value_count": done.value_count,
            "size_bytes": done.size_bytes,
        }
        lines = [
            f"published  {out}   serial  {done.serial}   {count}   until  {shown_time(done.expires)}",
            f"issuer     {done.issuer}",
        ]
    lines += [f"for        {name}   {grouped(bytes.fromhex(text))}" for name, text in done.recipients.items()]
    invocation.emit(result, *lines)
    for member in done.without_key:
        invocation.note(f"note: {member} cannot open it, since the vault knows no public key of it")
    for scope in done.left_out:
        invocation.note(f"note: what the role reads in the sealed scope `{scope}` is left out")
    for path in done.expired:
        invocation.note(f"note: left out, since it has expired: {path}")
