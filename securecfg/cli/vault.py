"""`securecfg vault`: creating, inspecting and verifying vaults."""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from securecfg.cli.backup import backup, backups, restore
from securecfg.cli.export import export
from securecfg.cli.groups import Noun
from securecfg.cli.introductions import trust
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.mounts import mount, mounts, prefetch, unmount
from securecfg.cli.publish import publish
from securecfg.cli.transfers import pull, push
from securecfg.clock import to_datetime
from securecfg.errors import (
    ExtraMissing,
    FileMissing,
    KeyProviderUnavailable,
    NotAuthenticated,
    Sealed,
    SecurecfgError,
    SettingMissing,
    Tampered,
    WrongKey,
)
from securecfg.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from securecfg.vault import Vault
    from securecfg.vault.scopes.adoption import ScopeAdoption
    from securecfg.vault.verification import Verification


@click.group(cls=Noun)
def vault() -> None:
    """Create, inspect and verify vaults."""


@vault.command(examples=("securecfg vault create team.vault --key file:team.key --admin ana",))
@click.argument("path", type=click.Path())
@click.option(
    "--admin",
    metavar="NAME",
    help="Its administrator, user:NAME; else --as or SECURECFG_AS, the identity that the key is, or you.",
)
@common_flags
def create(invocation: Invocation, *, path: str, admin: str | None) -> None:
    """Create a vault file, opened by one key, with one administrator.

    It begins without a policy: only the administrator may do anything. `securecfg init` does more for a project.
    """
    from securecfg.cli.new_keys import create_vault, open_new_provider, warn_if_weak
    from securecfg.cli.principals import login
    from securecfg.vault.creation import proved_principals

    key = invocation.key or os.environ.get("SECURECFG_KEY")
    if not key:
        message = "no key is named"
        raise SettingMissing(message, hint="give `--key URI`; `securecfg key generate PATH` makes a key file")
    provider = open_new_provider(invocation, key)
    asked = admin or invocation.principal or os.environ.get("SECURECFG_AS")
    principal = asked or next(iter(proved_principals(provider)), "") or login()
    with create_vault(path, provider, principal) as created:
        vault_id, name = created.opened.replica.vault_id.hex(), created.principal
    invocation.emit({"vault": path, "id": vault_id, "admin": name}, f"created  {path}   admin  {name}")
    warn_if_weak(invocation, provider)


@vault.command("open", examples=("securecfg vault open && echo it opens",))
@common_flags
def open_(invocation: Invocation) -> None:
    """Test that the vault or the bundle opens, and that it continues what this machine has seen of it."""
    from securecfg.vault.kinds import is_bundle

    if is_bundle(invocation.vault_path()):
        _open_bundle(invocation)
        return
    with invocation.open() as opened:
        replica = opened.opened.replica
        result = {
            "state": "open",
            "id": replica.vault_id.hex(),
            "principal": opened.principal or None,
            "record_count": replica.checkpoint.size,
        }
    who = opened.principal or "nobody"
    invocation.emit(result, f"open  {replica.vault_id.hex()}   as  {who}   records  {replica.checkpoint.size}")


def _open_bundle(invocation: Invocation) -> None:
    from securecfg.cli.output import shown_time, timestamp
    from securecfg.vault.bundles.bundle import Bundle

    with invocation.open() as opened:
        if not isinstance(opened, Bundle):
            message = "the file was another one a moment ago"
            raise Tampered(message, hint="try again")
        bundle = opened.bundle
    expires = to_datetime(bundle.inventory.expires)
    result = {
        "state": "open",
        "id": bundle.vault_id.hex(),
        "principal": bundle.reader.name,
        "role": bundle.inventory.role,
        "serial": bundle.serial,
        "expires": timestamp(expires),
        "issuer": str(bundle.issuer),
    }
    invocation.emit(
        result,
        f"open  bundle {bundle.serial} of {bundle.vault_id.hex()}   as  {bundle.reader.name}",
        f"role  {bundle.inventory.role}   until  {shown_time(expires)}",
    )


@vault.command(examples=("securecfg vault status", "securecfg vault status --json"))
@common_flags
def status(invocation: Invocation) -> None:
    """Show what an operator asks: identity, size, keys, log, anchor, pending work.

    Without a key that opens the vault it shows what the file tells everybody, and succeeds; `vault open` fails then.
    """
    from securecfg.cli.break_glass_findings import uses_of
    from securecfg.cli.inspection import Front, Inside
    from securecfg.vault.kinds import is_bundle

    path = invocation.vault_path()
    if is_bundle(path):
        _open_bundle(invocation)
        return
    front = Front.read(path)
    try:
        with invocation.open() as opened:
            inside = Inside.look(opened, path)
            uses, lines = uses_of(opened)
    except (Sealed, SettingMissing, FileMissing, ExtraMissing, KeyProviderUnavailable) as error:
        sealed = {"state": "sealed", "reason": error.message}
        invocation.emit(front.to_json() | sealed, *front.to_lines(), f"state        sealed: {error.message}")
        return
    shown = front.to_json() | inside.to_json() | {"break_glass": uses}
    invocation.emit(shown, *front.to_lines(), *inside.to_lines(), *lines)


@vault.command(
    examples=(
        "securecfg vault verify",
        "securecfg vault verify --vault web.sealed --issuer securecfg/8c1f...     # needs no key",
    )
)
@common_flags
def verify(invocation: Invocation) -> None:
    """Check the whole vault: every record and signature of the log, every version of every secret.

    Values are opened and dropped; none is shown, and none is recorded as read. Of a bundle it checks, without any key,
    that the vault with the verifier key --issuer published it.
    """
    from securecfg.vault.kinds import is_bundle
    from securecfg.vault.verification import verify_vault

    path = invocation.vault_path()
    if is_bundle(path):
        _verify_bundle(invocation, path)
        return
    logs, reports = [], []
    with invocation.open() as opened:
        for _, part in opened.parts():
            logs.append(part.log.verify())
            with invocation.progress("verifying") as progress:
                reports.append(verify_vault(part.opened, progress))
            refuse_damage(part, reports[-1])
        scopes = [path for path, _ in opened.parts() if path]
    orphans: Counter[str] = sum((report.orphans for report in reports), Counter())
    records, epochs = sum(log.size for log in logs), sum(log.epochs for log in logs)
    secrets, versions = sum(report.secrets for report in reports), sum(report.versions for report in reports)
    sealed = sum(report.sealed for report in reports)
    behind = [place for log in logs for place in log.behind]
    result = {
        "record_count": records,
        "epoch_count": epochs,
        "records_behind": behind,
        "secret_count": secrets,
        "version_count": versions,
        "sealed_count": sealed,
        "scopes": scopes,
        "orphans": dict(orphans),
    }
    left = orphans.total()
    invocation.emit(
        result,
        f"log      {counted(records, 'record')}, {counted(epochs, 'signing key')}: sound",
        f"secrets  {secrets} with {counted(versions, 'version')}, the vault's documents included: sound",
        *([f"scopes   {', '.join(scopes)}: sound"] if scopes else []),
        *([f"sealed   {counted(sealed, 'version')} that this key does not open"] if sealed else []),
        *([f"left     {counted(left, 'row')} of writers that crashed, which does no harm"] if left else []),
        *([f"clock    {counted(len(behind), 'record')} written by a clock far behind"] if behind else []),
    )


def _verify_bundle(invocation: Invocation, path: Path) -> None:
    from securecfg.audit import parse_vkey
    from securecfg.files import read_bounded
    from securecfg.vault.bundles.format import BUNDLE_BYTES_MAX, parse_front, verify_front
    from securecfg.vault.settings import find_bundle_settings

    issuer = find_bundle_settings(str(path), None, invocation.issuer)[1]
    if not issuer:
        message = "nothing says which vault the bundle must come from"
        raise SettingMissing(message, hint="give `--issuer`: the verifier key that `securecfg vault publish` shows")
    front = parse_front(read_bounded(path, BUNDLE_BYTES_MAX))
    vouched = verify_front(front, parse_vkey(issuer))
    result = {"serial": vouched.serial, "issuer": str(vouched.issuer), "digest": front.digest.hex()}
    invocation.emit(
        result,
        f"sound  {path}   serial  {vouched.serial}",
        f"by     {vouched.issuer}, whose log has the publication as record {vouched.serial}",
    )


@vault.command(
    examples=(
        "securecfg vault adopt --reason 'restored from the backup of Monday'",
        "securecfg vault adopt --key identity:pay.identity     # the sealed scopes that this identity opens",
    )
)
@common_flags
def adopt(invocation: Invocation) -> None:
    """Accept a copy, a restored vault, one whose anchor was lost, or one that another clock dated into the future.

    What this machine recorded of the vault is replaced by the vault as it is now, and the time of its newest
    publication by this machine's. Do this only if you know why the two differ: an attacker who puts back an older vault
    looks the same. A key of the vault accepts its sealed scopes too; an identity that opens scopes and nothing else
    accepts those.
    """
    from securecfg.keys import IdentityProvider
    from securecfg.vault.adoption import adopt as adopt_vault
    from securecfg.vault.adoption import compare_with_anchor
    from securecfg.vault.creation import proved_principals

    settings = invocation.settings()
    provider = invocation.provider()
    principal = settings.principal or next(iter(proved_principals(provider)), "")
    if not principal:
        message = "nobody says who is asking"
        raise NotAuthenticated(message, hint="name a principal: `--as user:NAME` or SECURECFG_AS")
    try:
        known = compare_with_anchor(settings.vault, provider)
    except WrongKey:
        if not isinstance(provider, IdentityProvider):
            raise
        _adopt_scopes(invocation, settings.vault, provider)
        return
    recorded = "nothing" if known.recorded_size is None else counted(known.recorded_size, "record")
    if _may_adopt(settings.vault, provider, principal):
        invocation.note(f"the vault holds {counted(known.size, 'record')}; this machine recorded {recorded}")
        if known.ahead:
            ahead = timedelta(seconds=round(known.ahead.total_seconds()))
            invocation.note(f"its newest publication lies {ahead} in the future of this clock, and is set back")
        invocation.confirm("Accept the vault as it is?")
    done = adopt_vault(settings.vault, provider, principal, reason=invocation.reason)
    invocation.emit(
        {"vault": str(settings.vault), "record_count": done.size, "recorded_count": done.recorded_size},
        f"adopted  {settings.vault}   records  {done.size}   recorded before  {recorded}",
    )


def _adopt_scopes(invocation: Invocation, path: str, provider: KeyProvider) -> None:
    from securecfg.vault.scopes.adoption import adopt_scopes, compare_scopes

    principal = invocation.principal or ""
    for scope in compare_scopes(path, provider, principal):
        invocation.note(
            f"the sealed scope `{scope.path}` holds {_held(scope)}; this machine recorded {_recorded(scope)}"
        )
    invocation.confirm("Accept these scopes as they are?")
    done = adopt_scopes(path, provider, principal, reason=invocation.reason)
    scopes = [
        {"path": scope.path, "record_count": scope.size, "recorded_count": scope.recorded_size}
        for scope in done
        if not scope.is_box
    ]
    boxes = [
        {"path": scope.path, "serial": scope.size, "recorded_serial": scope.recorded_size}
        for scope in done
        if scope.is_box
    ]
    invocation.emit(
        {"vault": str(path), "scopes": scopes, "drop_boxes": boxes},
        *(f"adopted  {scope.path}   {_held(scope)}   recorded before  {_recorded(scope)}" for scope in done),
    )


def _held(scope: ScopeAdoption) -> str:
    return f"drop order {scope.size}" if scope.is_box else counted(scope.size, "record")


def _recorded(scope: ScopeAdoption) -> str:
    if scope.recorded_size is None:
        return "nothing"
    return _held(scope._replace(size=scope.recorded_size))


def _may_adopt(path: str, provider: KeyProvider, principal: str) -> bool:
    """Return whether to ask for confirmation; who may not adopt is refused, and recorded, without being asked."""
    from securecfg.clock import SystemClock
    from securecfg.vault.authority import Authority
    from securecfg.vault.creation import open_vault
    from securecfg.vault.opened import Options
    from securecfg.vault.session import Identity

    opened, _ = open_vault(path, provider, SystemClock(), Options(read_only=True), is_adopting=True)
    try:
        return Authority(opened, Identity(principal)).session().decide("vault.restore", "").allowed
    finally:
        opened.close()


def refuse_damage(opened: Vault, report: Verification) -> None:
    """Fail where values are damaged, naming those that may be listed.

    Raises:
        Tampered: Some are.
    """
    if not report.problems:
        return
    try:
        listed = set(opened.authority.filter_listed([path for path, _, _ in report.problems]))
    except SecurecfgError:
        # Nobody says who asks, or the policy is among what is damaged.
        listed = set()
    lines = [
        f"\n  {f'{path}@{version}' if path in listed else 'a secret that you may not list'}: {message}"
        for path, version, message in report.problems
    ]
    message = f"{counted(len(lines), 'damaged value')}{''.join(lines)}"
    raise Tampered(message, hint="restore the vault from a backup; undamaged secrets can still be read")


for command in (backup, backups, restore, export, pull, push, publish, trust, mount, unmount, mounts, prefetch):
    vault.add_command(command)
