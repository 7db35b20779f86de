"""`securecfg role`: who belongs to which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Noun
from securecfg.cli.identity import grouped
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.signing import administration_of, signing_options
from securecfg.errors import SecurecfgError, UsageError

if TYPE_CHECKING:
    from securecfg.cli.signing import SigningOptions
    from securecfg.vault import Vault
    from securecfg.vault.rekeying.roles import RoleRotation, RotatedRole

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


@role.command(
    examples=(
        "securecfg role remove web --member svc:web",
        "securecfg role remove web --member svc:web --rotate     # and gives the role another key in sealed scopes",
    )
)
@click.argument("name")
@_MEMBER
@click.option("--rotate", "rotates", is_flag=True, help="Give the role another key, as `role rotate` does.")
@signing_options
@common_flags
def remove(invocation: Invocation, *, name: str, member: str, rotates: bool, signing: SigningOptions) -> None:
    """Take a role from a principal. The last administrator stays.

    With the last role that it was given in the vault its public key is forgotten. Where the role takes part in sealed
    scopes it may have kept the key of the role: give the role another one.
    """
    from securecfg.vault.rekeying.roles import RoleRotation

    with signing.open(invocation) as (vault, sign_for):
        roles = RoleRotation.with_signing(vault.authority, sign_for)
        if rotates:
            vault.authority.require("key.manage", "")
            roles.verify_kept(name, leaving=member)
        has_key, was_member = roles.has_key(name), roles.has_member(name, member)
        failure: SecurecfgError | None = None
        try:
            administration_of(vault, sign_for).remove_member(name, member)
        except SecurecfgError as error:
            # A scope that does not open keeps the others from nothing.
            if not was_member or not rotates or not has_key or roles.has_member(name, member):
                raise
            failure = error
        if rotates and has_key:
            try:
                _rotate(invocation, roles, name, resumes=False)
            except SecurecfgError:
                invocation.note(f"note: {member} is no member of {name} any more")
                raise
        if failure is not None:
            raise failure
    result = {"role": name, "member": member, "is_rotated": rotates and has_key}
    invocation.emit(result, f"removed  {member} from {name}")
    if has_key and not rotates:
        invocation.note(f"note: {member} may have kept the key of {name}, which opens sealed scopes")
        invocation.note(f"hint: give the role another one: `securecfg role rotate {name}`")


@role.command(
    examples=(
        "securecfg role rotate web",
        "securecfg role rotate web --resume           # goes on where an earlier call was interrupted",
    )
)
@click.argument("name")
@click.option("--resume", is_flag=True, help="Make no new key; only bring the newest to every scope.")
@signing_options
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common_flags
def rotate(invocation: Invocation, *, name: str, resume: bool, signing: SigningOptions, dry_run: bool) -> None:
    """Give a role another key in all sealed scopes that it takes part in, sealed to those who are its members now.

    Who was its member before reads nothing that is written from then on, with the key and all else that he kept. What
    he could read is listed by `securecfg audit exposed` until it has another value. Members go on to read everything.
    What waits of a role that drops is refused with its key: have it taken in before (`securecfg scope collect`).
    """
    from securecfg.vault.rekeying.roles import RoleRotation

    with signing.open(invocation) as (vault, sign_for):
        roles = RoleRotation.with_signing(vault.authority, sign_for)
        if dry_run:
            scopes, members = roles.takes_part(name), roles.members(name)
            result = {"role": name, "members": members, "scopes": scopes, "is_done": False}
            told = f"would give  {name} {'its newest' if resume else 'a new'} key in"
            invocation.emit(result, *(f"{told} {path}" for path in scopes), *(f"member     {each}" for each in members))
            return
        done = _rotate(invocation, roles, name, resumes=resume)
    invocation.emit(
        {"role": name, "members": list(done.members), "scopes": list(done.scopes), "waiting": list(done.waiting)},
        *(f"rotated  {name} in {path}" for path in done.scopes),
        *(f"member   {each}" for each in done.members),
    )


def _rotate(invocation: Invocation, roles: RoleRotation, name: str, *, resumes: bool) -> RotatedRole:
    with invocation.progress("replacing the key of the role") as progress:
        done = roles.rotate_role(name, progress, resumes=resumes)
    for path in done.waiting:
        invocation.note(f"note: what was written before waits in {path} for a member to open it")
    return done


def _in_grant_tables(vault: Vault) -> list[tuple[str, str, str]]:
    from securecfg.policy.rules import read_documents

    if not vault.authority.session().decide("policy.read", "").allowed:
        return []
    return [
        (each.role.removeprefix("role:"), each.member, f"{document}:{each.line}:{each.column}")
        for document, each in read_documents(vault.administration.policy_documents()).memberships
    ]
