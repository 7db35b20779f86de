"""`securecfg role`: who belongs to which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Noun
from securecfg.cli.identity import grouped
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.signing import administration_of, signing_options
from securecfg.errors import UsageError

if TYPE_CHECKING:
    from securecfg.cli.signing import SigningOptions
    from securecfg.vault import Vault

_MEMBER = click.option("--member", metavar="PRINCIPAL", required=True, help="user:NAME or svc:NAME.")


@click.group(cls=Noun)
def role() -> None:
    """Give roles to principals; what a role may do is in the policy."""


@role.command("list", examples=("securecfg role list",))
@common_flags
def list_(invocation: Invocation) -> None:
    """List roles and their members, and where each membership comes from.

    Members that grant tables name are listed where you may also read the policy.
    """
    with invocation.open() as vault:
        members = [(name, member, "vault") for name, those in vault.administration.roles().items() for member in those]
        members += _in_grant_tables(vault)
        keys = {member: identity.fingerprint for member, identity in vault.administration.identities().items()}
    roles: dict[str, list[dict[str, str | None]]] = {}
    for name, member, source in sorted(members):
        fingerprint = keys[member].hex() if member in keys else None
        roles.setdefault(name, []).append({"principal": member, "source": source, "fingerprint": fingerprint})
    invocation.emit_table(
        {"roles": [{"role": name, "members": those} for name, those in roles.items()]},
        ("ROLE", "MEMBER", "FROM", "FINGERPRINT"),
        [
            (name, member, source, grouped(keys[member]) if member in keys else "")
            for name, member, source in sorted(members)
        ],
        shorten=("FROM", "FINGERPRINT", "MEMBER", "ROLE"),
    )


@role.command(
    examples=(
        "securecfg role add web --member svc:web",
        "securecfg role add web --member svc:web --identity web.pub",
        "securecfg role add admin --member user:olga",
    )
)
@click.argument("name")
@_MEMBER
@click.option(
    "--identity", type=click.Path(), metavar="PUBLIC-FILE", help="The member's public key, from `identity create`."
)
@click.option("--replace", is_flag=True, help="Take the key although another one of the member is known.")
@signing_options
@common_flags
def add(
    invocation: Invocation, *, name: str, member: str, identity: str | None, replace: bool, signing: SigningOptions
) -> None:
    """Give a principal a role; the role is made where it is new.

    With --identity the vault keeps the member's public key, to seal to it what is for its roles. Compare the
    fingerprint with what its owner reads to you from `securecfg identity show`. Where sealed scopes have several
    administrators, these sign that the member is let into them.
    """
    from securecfg.keys.identity import read_identity_file

    if replace and identity is None:
        message = "`--replace` says that a key takes the place of another one"
        raise UsageError(message, hint="name the file of the new one: `--identity PUBLIC-FILE`")
    public = None if identity is None else read_identity_file(identity).identity
    with signing.open(invocation) as (vault, sign_for):
        vault.authority.require("role.write", "")
        old = administration_of(vault, sign_for).add_member(name, member, identity=public, replace=replace)
    if old is not None:
        told = f"warning: what was sealed to the key {grouped(old.fingerprint)} of {member} stays readable with it"
        invocation.note(told)
        invocation.note("`securecfg audit exposed` lists what was published for it, until it has another value")
    shown = {"fingerprint": public.fingerprint.hex()} if public is not None else {}
    invocation.emit(
        {"role": name, "member": member} | shown,
        f"added  {member} to {name}",
        *([f"key    fingerprint  {grouped(public.fingerprint)}"] if public is not None else []),
    )


@role.command(examples=("securecfg role remove web --member svc:web",))
@click.argument("name")
@_MEMBER
@signing_options
@common_flags
def remove(invocation: Invocation, *, name: str, member: str, signing: SigningOptions) -> None:
    """Take a role from a principal. The last administrator stays.

    With the last role that it was given in the vault its public key is forgotten.
    """
    with signing.open(invocation) as (vault, sign_for):
        administration_of(vault, sign_for).remove_member(name, member)
    invocation.emit({"role": name, "member": member}, f"removed  {member} from {name}")


def _in_grant_tables(vault: Vault) -> list[tuple[str, str, str]]:
    from securecfg.policy.rules import read_documents

    if not vault.authority.session().decide("policy.read", "").allowed:
        return []
    return [
        (each.role.removeprefix("role:"), each.member, f"{document}:{each.line}:{each.column}")
        for document, each in read_documents(vault.administration.policy_documents()).memberships
    ]
