"""`securecfg key rotate slot`: a slot wrapped anew under the key that opens it."""

from __future__ import annotations

import click

from securecfg.cli.arguments import Number
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags


@click.command(
    "slot",
    cls=Verb,
    examples=(
        "securecfg key rotate slot 2 --key passphrase:",
        "securecfg key rotate slot 2 --slot-key passphrase:    # the vault is opened with another key",
    ),
)
@click.argument("number", metavar="SLOT", type=Number())
@click.option("--slot-key", metavar="URI", help="The key of the slot; else the key that opens the vault is its own.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common_flags
def slot(invocation: Invocation, *, number: int, slot_key: str | None, dry_run: bool) -> None:
    """Wrap an unlock slot anew: a passphrase at the costs of today, a key service's key in its newest version.

    The key itself stays, and so do number, label and principals. Whoever has an older copy of the file can try the key
    there as before. To change the key, add another one and remove this slot.
    """
    from securecfg.keys import open_provider
    from securecfg.vault.keys.slots import Slots

    # Not what was remembered of a passphrase, which does not say that the one to be typed is right.
    own = open_provider(invocation.settings().key, ask=invocation.ask) if slot_key is None else None
    with invocation.open(key=own) as vault:
        vault.authority.require("key.manage", "")
        provider = own or open_provider(slot_key or "", ask=invocation.ask)
        if dry_run:
            invocation.emit({"slot": number, "is_done": False}, f"would wrap  slot {number} anew")
            return
        is_done = Slots(vault.authority).rewrap(number, provider)
    said = (
        f"rotated  slot {number}" if is_done else f"unchanged  slot {number}: a `{provider.scheme}:` key renews nothing"
    )
    invocation.emit({"slot": number, "kind": provider.scheme, "is_done": is_done}, said)
