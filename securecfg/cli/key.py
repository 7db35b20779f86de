"""`securecfg key`: the keys that open a vault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Number
from securecfg.cli.backup import note_backups
from securecfg.cli.compromise import compromise
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.key_ceremony import ceremony
from securecfg.cli.key_limits import policy, usage
from securecfg.cli.key_rotation import retire, rotate
from securecfg.cli.key_shares import combine, split
from securecfg.cli.key_slot import slot
from securecfg.cli.output import shown_time, timestamp
from securecfg.cli.signing import signing_options
from securecfg.errors import UsageError

if TYPE_CHECKING:
    from securecfg.cli.signing import SigningOptions


@click.group(cls=Noun)
def key() -> None:
    """Manage the keys that open a vault."""


@key.command(examples=("securecfg key generate ~/keys/team.key",))
@click.argument("path", type=click.Path())
@common_flags
def generate(invocation: Invocation, *, path: str) -> None:
    """Write a new random key to a file, mode 0600, never over an existing one."""
    from securecfg.keys import generate_key_file

    generate_key_file(path)
    uri = f"file:{Path(path).absolute()}"
    invocation.emit({"path": path, "uri": uri}, f"written  {path} (mode 0600)   use it as  {uri}")


@key.command("list", examples=("securecfg key list",))
@common_flags
def list_(invocation: Invocation) -> None:
    """List the unlock slots: each is one key with which the vault opens."""
    from securecfg.vault.keys.slots import Slots

    with invocation.open() as vault:
        slots = Slots(vault.authority).list()
    invocation.emit_table(
        {
            "slots": [
                {
                    "slot": slot.number,
                    "kind": slot.kind,
                    "parts": list(slot.parts),
                    "needed": slot.needed,
                    "label": slot.label,
                    "added": timestamp(slot.added),
                    "last_used": None,
                    "principals": list(slot.principals),
                }
                for slot in slots
            ]
        },
        ("SLOT", "KIND", "LABEL", "ADDED", "MAY SPEAK FOR"),
        [
            (
                str(slot.number),
                slot.shown_kind,
                slot.label,
                shown_time(slot.added),
                " ".join(slot.principals) or "anyone",
            )
            for slot in slots
        ],
        shorten=("ADDED", "LABEL", "MAY SPEAK FOR"),
    )


@key.command(
    examples=(
        "securecfg key add passphrase: --label laptop",
        "securecfg key add file:/etc/shop/web.key --label web --principal svc:web",
        "securecfg key add identity:web.pub              # lets svc:web in, who proves that with the private half",
        "securecfg key add recovery:                     # makes a new code and shows it once",
        "securecfg key add 'pkcs11:token=hsm;object=shop?module-name=softhsm2'    # makes the key if it is not there",
        "securecfg key add --part awskms:alias/shop --part file:/etc/shop.key       # both together",
        "securecfg key add --part awskms:alias/a --part gcpkms:KEY --part recovery: --need 2",
    )
)
@click.argument("uri", required=False)
@click.option("--part", "parts", multiple=True, metavar="URI", help="One of several keys that open together.")
@click.option("--need", type=Number(2), metavar="K", help="How many of the parts open; all if not given.")
@click.option("--label", default="", metavar="TEXT", help="What to call it.")
@click.option(
    "--principal", "principals", multiple=True, metavar="PRINCIPAL", help="Whom it may speak for; else anyone."
)
@common_flags
def add(
    invocation: Invocation,
    *,
    uri: str | None,
    parts: tuple[str, ...],
    need: int | None,
    label: str,
    principals: tuple[str, ...],
) -> None:
    """Add a key with which the vault opens, or several that open it together.

    A passphrase that is easy to guess is accepted with a warning.
    """
    from securecfg.cli.identity import grouped
    from securecfg.cli.new_keys import make_missing, make_or_open_provider, warn_if_weak
    from securecfg.keys import IdentityProvider
    from securecfg.vault.keys.slots import Slots

    with invocation.open() as vault:
        vault.authority.require("key.manage", "")
        named = _named(uri, parts, need)
        provider, code = make_or_open_provider(invocation, named)
        was_made = make_missing(provider)
        number = Slots(vault.authority).add(provider, label=label, principals=principals)
    result: dict[str, object] = {"slot": number, "kind": provider.scheme, "label": label}
    lines = [f"added  slot {number}  {provider.scheme}"]
    if was_made:
        result["made_key"] = True
        lines.insert(0, "made   the key, which never leaves its holder")
    if parts:
        result["uri"] = named
        lines.append(f"use it as  {named}")
    if isinstance(provider, IdentityProvider):
        identity = provider.read_identity()
        result |= {"principal": identity.name, "fingerprint": identity.fingerprint.hex()}
        lines.append(f"proves {identity.name}   fingerprint  {grouped(identity.fingerprint)}")
    if code is not None:
        result["recovery_code"] = code.reveal()
        lines.append(f"recovery code {code.reveal()} (shown once)")
    invocation.emit(result, *lines)
    warn_if_weak(invocation, provider)


def _named(uri: str | None, parts: tuple[str, ...], need: int | None) -> str:
    """Return the URI of a new key: the one that is given, or that of several."""
    if (uri is None) == (not parts) or (need is not None and not parts):
        message = "either one key URI is given, or each of several with `--part`"
        raise UsageError(message, hint="`securecfg key add --part URI --part URI --need K`")
    from securecfg.keys.parts import join_uris

    return uri if uri is not None else join_uris(len(parts) if need is None else need, parts)


@key.command(examples=("securecfg key remove 2",))
@click.argument("slot", type=Number())
@signing_options
@common_flags
def remove(invocation: Invocation, *, slot: int, signing: SigningOptions) -> None:
    """Remove an unlock slot, and replace all keys that its holder knew.

    The last slot with which an administrator can open the vault cannot be removed. Whoever holds the removed key and a
    copy of the file made before can still open that copy: change the secrets in it. The key that opens sealed scopes is
    replaced too, which their administrators sign where these are people.
    """
    from securecfg.vault.keys.slots import Slots

    with signing.open(invocation) as (vault, sign_for):
        vault.authority.require("key.manage", "")
        invocation.confirm(f"Remove slot {slot}? Its key will not open this vault any more.")
        with invocation.progress("replacing keys") as progress:
            Slots(vault.authority).remove(slot, progress, signing=sign_for)
        note_backups(invocation, vault)
    invocation.emit({"slot": slot}, f"removed  slot {slot}")


@key.command(examples=("securecfg key test file:/etc/shop/web.key", "securecfg key test awskms:alias/shop"))
@click.argument("uri")
@common_flags
def test(invocation: Invocation, *, uri: str) -> None:
    """Test whether a key opens the vault, which slot is its own, how long it takes, and what the key can do.

    A new key is wrapped and unwrapped as well, for no slot. A key that may only open slots is fine without that.
    """
    from securecfg.cli.probing import probe_key
    from securecfg.keys import open_provider

    with invocation.open() as vault:
        found = probe_key(vault, open_provider(uri, ask=invocation.ask))
    invocation.emit(found.to_json(), *found.lines())


@key.command(examples=("securecfg key providers",))
@common_flags
def providers(invocation: Invocation) -> None:
    """List the kinds of keys: which can be used here, and what to install for the others."""
    from securecfg.keys.installed import list_providers

    known = list_providers()
    invocation.emit_table(
        {
            "providers": [
                {"scheme": one.scheme, "usable": not one.missing, "origin": one.origin, "install": one.install}
                for one in known
            ]
        },
        ("SCHEME", "STATE", "FROM", "TO INSTALL"),
        [(f"{one.scheme}:", "missing" if one.missing else "usable", one.origin, one.install) for one in known],
    )


rotate.add_command(slot)
for command in (split, combine, ceremony, rotate, retire, usage, policy, compromise):
    key.add_command(command)
