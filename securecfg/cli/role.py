"""`securecfg role`: who belongs to which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags

if TYPE_CHECKING:
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
    roles: dict[str, list[dict[str, str]]] = {}
    for name, member, source in sorted(members):
        roles.setdefault(name, []).append({"principal": member, "source": source})
    invocation.emit_table(
        {"roles": [{"role": name, "members": those} for name, those in roles.items()]},
        ("ROLE", "MEMBER", "FROM"),
        sorted(members),
        shorten=("FROM", "MEMBER", "ROLE"),
    )


@role.command(examples=("securecfg role add web --member svc:web", "securecfg role add admin --member user:olga"))
@click.argument("name")
@_MEMBER
@common_flags
def add(invocation: Invocation, *, name: str, member: str) -> None:
    """Give a principal a role."""
    with invocation.open() as vault:
        vault.authority.require("role.write", "")
        vault.administration.add_member(name, member)
    invocation.emit({"role": name, "member": member}, f"added  {member} to {name}")


@role.command(examples=("securecfg role remove web --member svc:web",))
@click.argument("name")
@_MEMBER
@common_flags
def remove(invocation: Invocation, *, name: str, member: str) -> None:
    """Take a role from a principal. The last administrator stays."""
    with invocation.open() as vault:
        vault.administration.remove_member(name, member)
    invocation.emit({"role": name, "member": member}, f"removed  {member} from {name}")


def _in_grant_tables(vault: Vault) -> list[tuple[str, str, str]]:
    from securecfg.policy.rules import read_documents

    if not vault.authority.session().decide("policy.read", "").allowed:
        return []
    return [
        (each.role.removeprefix("role:"), each.member, f"{document}:{each.line}:{each.column}")
        for document, each in read_documents(vault.administration.policy_documents()).memberships
    ]
