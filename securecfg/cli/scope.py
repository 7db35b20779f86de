"""`securecfg scope`: parts of a vault that open by the keys of roles alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.break_glass import break_glass
from securecfg.cli.groups import Noun
from securecfg.cli.introductions import introduce
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.scope_administrators import administrators, sign
from securecfg.cli.signing import signing_options
from securecfg.errors import UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.cli.signing import SigningOptions
    from securecfg.keys import IdentityProvider
    from securecfg.vault.moves.relocation import Moved
    from securecfg.vault.scopes.scopes import ScopeInfo, Scopes

_EXPOSED = "`securecfg audit exposed` lists it until it has other values"
_WITH = click.option("--with", "reader", metavar="identity:FILE", help="The identity of somebody who reads the scope.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def _roles(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--read`, `--list`, `--write` and `--drop`."""
    for right, what in (
        ("drop", "May hand values in and, by itself, see nothing."),
        ("write", "May write, and so list; by itself not read."),
        ("list", "May list names and history, no values."),
        ("read", "May read values, and so list."),
    ):
        command = click.option(f"--{right}", f"{right}_roles", multiple=True, metavar="role:NAME", help=what)(command)
    return command


@click.group(cls=Noun)
def scope() -> None:
    """Seal parts of a vault, so that only the keys of some roles open them.

    Policy keeps honest programs apart; a sealed scope keeps out whoever has a copy of the file and a key that is not
    for it, the vault's own root included.
    """


@scope.command("list", examples=("securecfg scope list",))
@common_flags
def list_(invocation: Invocation) -> None:
    """List the sealed scopes and who may do what in them."""
    from securecfg.vault.scopes.scopes import Scopes

    with invocation.open() as vault:
        scopes = Scopes(vault.authority)
        infos = [scopes.show(path) for path in scopes.paths()]
    invocation.emit_table(
        {"scopes": [_as_object(info) for info in infos]},
        ("SCOPE", "ROLE", "MAY", "REVISION"),
        [
            (info.path, role, ", ".join(rights), str(info.revision))
            for info in infos
            for role, rights in sorted(info.roles.items())
        ],
        shorten=("ROLE", "SCOPE"),
    )


@scope.command(examples=("securecfg scope show payments",))
@click.argument("path")
@common_flags
def show(invocation: Invocation, *, path: str) -> None:
    """Show who may do what in a sealed scope, as its administrators have signed it."""
    from securecfg.vault.scopes.scopes import Scopes

    with invocation.open() as vault:
        scopes = Scopes(vault.authority)
        info, fingerprint = scopes.show(path), scopes.administrators_fingerprint()
    lines = [*_lines(info, "scope  "), f"  administrators' fingerprint: {fingerprint}"]
    invocation.emit(_as_object(info) | {"administrators_fingerprint": fingerprint}, *lines)


@scope.command(
    examples=(
        "securecfg role add payments --member svc:pay --identity pay.pub",
        "securecfg scope create payments --read role:payments",
        "securecfg scope create web --read role:web --write role:web",
        "securecfg scope create inbox --read role:web --write role:web --drop role:partner",
        "securecfg scope create common --read role:web --shared     # the vault's root reads it too",
        "securecfg scope create db --read role:db --move            # with the secrets that are there",
    )
)
@click.argument("path")
@_roles
@click.option("--shared", is_flag=True, help="Let whoever opens the vault by its root read it too.")
@click.option("--move", "moves", is_flag=True, help="Move the secrets that are below the path into it.")
@signing_options
@_DRY_RUN
@common_flags
def create(  # noqa: PLR0913 - each is an option of the command
    invocation: Invocation,
    *,
    path: str,
    read_roles: tuple[str, ...],
    list_roles: tuple[str, ...],
    write_roles: tuple[str, ...],
    drop_roles: tuple[str, ...],
    shared: bool,
    moves: bool,
    signing: SigningOptions,
    dry_run: bool,
) -> None:
    """Seal a subtree, in which there is nothing yet or whose secrets are moved with all their history.

    What is moved could be read by whoever opens the vault by its root, and they may know it: `securecfg audit exposed`
    lists it until it has other values. Until the move is done everything is read and written where it is.

    Where no role may write, the administrator does, who does not read; so values can be put in by whoever runs the
    vault without being known to him afterwards. The members of roles need public keys: `securecfg role add`.
    """
    from securecfg.vault.moves.scopes import ScopeMoves

    if not (read_roles or list_roles or write_roles or drop_roles):
        message = "a sealed scope that nobody may open is of no use"
        raise UsageError(message, hint="say who may read it: `--read role:NAME`")
    roles = {"list": list_roles, "read": read_roles, "write": write_roles, "drop": drop_roles}
    with signing.open(invocation) as (vault, sign_for):
        scopes = ScopeMoves.with_signing(vault.authority, sign_for)
        if dry_run:
            vault.authority.require("key.manage", "")
            if not moves:
                scopes.verify_free(path)
            count = scopes.count_below(path) if moves else 0
            named = {right: list(names) for right, names in roles.items()}
            moved = f" with {counted(count, 'secret')}" if count else ""
            invocation.emit(
                {"path": path, "roles": named, "secret_count": count, "is_done": False}, f"would seal  {path}{moved}"
            )
            return
        if not moves:
            info = scopes.create(
                path, read=read_roles, list=list_roles, write=write_roles, drop=drop_roles, is_shared=shared
            )
            _emit(invocation, info, "sealed  ")
            return
        with invocation.progress("moving secrets") as progress:
            info, done = scopes.seal(path, roles=roles, is_shared=shared, progress=progress)
    _emit(invocation, info, "sealed  ", done)
    if done.versions and not shared:
        invocation.note(f"note: who opens the vault by its root may know what was moved: {_EXPOSED}")


@scope.command(
    examples=(
        "securecfg scope split payments payments/eu",
        "securecfg scope split payments payments/eu --with identity:pay.identity",
    )
)
@click.argument("path")
@click.argument("subtree")
@_WITH
@signing_options
@_DRY_RUN
@common_flags
def split(
    invocation: Invocation, *, path: str, subtree: str, reader: str | None, signing: SigningOptions, dry_run: bool
) -> None:
    """Make a subtree of a sealed scope a scope of its own.

    It has the same roles and rights, until they are granted and revoked apart. Somebody has to read what is moved: the
    vault's own key where the scope is shared, else a member of a role that reads it.
    """
    from securecfg.vault.moves.scopes import ScopeMoves

    with signing.open(invocation) as (vault, sign_for):
        scopes = ScopeMoves.with_signing(vault.authority, sign_for)
        if dry_run:
            count = scopes.count_in_scope(path, subtree)
            told = f"would split  {subtree} from {path} with {counted(count, 'secret')}"
            invocation.emit({"path": subtree, "from": path, "secret_count": count, "is_done": False}, told)
            return
        with invocation.progress("moving secrets") as progress:
            info, done = scopes.split(path, subtree, reader=_reader(invocation, reader), progress=progress)
    _emit(invocation, info, "split  ", done)


@scope.command(
    examples=(
        "securecfg scope merge payments/eu --with identity:pay.identity --dry-run",
        "securecfg scope merge payments/eu --with identity:pay.identity",
    )
)
@click.argument("path")
@_WITH
@signing_options
@_DRY_RUN
@common_flags
def merge(invocation: Invocation, *, path: str, reader: str | None, signing: SigningOptions, dry_run: bool) -> None:
    """End a sealed scope: put what is in it into the scope around it, or else into the vault itself.

    Who gains rights and who loses them is shown first. The log of the scope ends with it: export it before, if you need
    it (`securecfg audit export`).
    """
    from securecfg.vault.moves.scopes import ScopeMoves

    with signing.open(invocation) as (vault, sign_for):
        scopes = ScopeMoves.with_signing(vault.authority, sign_for)
        planned = scopes.plan_merge(path)
        lines = [f"  {role}: gains {', '.join(rights)}" for role, rights in sorted(planned.gained().items())]
        lines += [f"  {role}: loses {', '.join(rights)}" for role, rights in sorted(planned.lost().items())]
        if planned.into == "/":
            lines.append("  whoever opens the vault by its root: gains list, read, write")
        where = "the vault itself" if planned.into == "/" else planned.into
        result = {
            "path": planned.path,
            "into": planned.into,
            "secret_count": planned.secrets,
            "gained": {role: list(rights) for role, rights in sorted(planned.gained().items())},
            "lost": {role: list(rights) for role, rights in sorted(planned.lost().items())},
        }
        if dry_run:
            told = f"would merge  {planned.path} into {where} with {counted(planned.secrets, 'secret')}"
            invocation.emit(result | {"is_done": False}, told, *lines)
            return
        for line in lines:
            invocation.note(line)
        invocation.confirm(f"Merge {planned.path} into {where}, and end it with its log?")
        with invocation.progress("moving secrets") as progress:
            _, done = scopes.merge(path, reader=_reader(invocation, reader), progress=progress)
    moved = (
        f"merged  {planned.path} into {where}: {counted(done.secrets, 'secret')}, {counted(done.versions, 'version')}"
    )
    invocation.emit(result | {"secret_count": done.secrets, "version_count": done.versions, "is_done": True}, moved)
    if planned.is_exposing and done.versions:
        invocation.note(f"note: who read it there may know what was moved: {_EXPOSED}")


@scope.command(
    examples=(
        "securecfg scope grant payments --read role:audit",
        "securecfg scope grant payments --list role:web --write role:web",
        "securecfg scope grant payments --drop role:partner     # hands values in, sees nothing",
    )
)
@click.argument("path")
@_roles
@signing_options
@_DRY_RUN
@common_flags
def grant(
    invocation: Invocation,
    *,
    path: str,
    read_roles: tuple[str, ...],
    list_roles: tuple[str, ...],
    write_roles: tuple[str, ...],
    drop_roles: tuple[str, ...],
    signing: SigningOptions,
    dry_run: bool,
) -> None:
    """Give roles rights in a sealed scope.

    Who does not read a scope can let somebody else read what is written from then on. What was written before is opened
    to a new reader by the next other reader that uses the vault. A role can be let drop values where another one reads
    and writes.
    """
    wanted = {"list": list_roles, "read": read_roles, "write": write_roles, "drop": drop_roles}
    info = _change(
        invocation, path, wanted, lambda scopes, role, right: scopes.grant(path, role, right), signing, dry_run
    )
    if info is not None:
        _emit(invocation, info, "granted  ")


@scope.command(
    examples=(
        "securecfg scope revoke payments --read role:audit      # may still list",
        "securecfg scope revoke payments --list role:audit      # is out",
    )
)
@click.argument("path")
@_roles
@signing_options
@_DRY_RUN
@common_flags
def revoke(
    invocation: Invocation,
    *,
    path: str,
    read_roles: tuple[str, ...],
    list_roles: tuple[str, ...],
    write_roles: tuple[str, ...],
    drop_roles: tuple[str, ...],
    signing: SigningOptions,
    dry_run: bool,
) -> None:
    """Take rights from roles in a sealed scope; with the right to list the others go too.

    Keys change, so that what is written later is sealed from a former reader. What it could read before it may know:
    `securecfg audit exposed` lists those secrets until they have new values. What a role has not is not taken from it.
    Where nobody else reads the scope, what is in it is lost, and you are asked first.
    """
    wanted = {"list": list_roles, "read": read_roles, "write": write_roles, "drop": drop_roles}
    gone = {role.removeprefix("role:") for role in (*read_roles, *list_roles)}

    def confirm(info: ScopeInfo) -> None:
        readers = {role for role, rights in info.roles.items() if "read" in rights}
        if readers & gone and not readers - gone:
            invocation.confirm(f"Nobody else reads `{info.path}`: what is in it would be lost for ever. Go on?")

    with invocation.progress("changing keys") as progress:
        info = _change(
            invocation,
            path,
            wanted,
            lambda scopes, role, right: scopes.revoke(path, role, right, progress),
            signing,
            dry_run,
            confirm=confirm,
        )
    if info is not None:
        _emit(invocation, info, "revoked  ")


@scope.command(
    examples=("securecfg scope verify payments", "securecfg scope verify payments --key identity:pay.identity")
)
@click.argument("path")
@common_flags
def verify(invocation: Invocation, *, path: str) -> None:
    """Check a sealed scope: charter, voucher, log, names, and the values that the key at hand opens."""
    from securecfg.cli.vault import refuse_damage
    from securecfg.vault.scopes.opening import charter_of
    from securecfg.vault.verification import verify_vault

    with invocation.open() as vault:
        part = vault.scope(path)
        log = part.log.verify()
        with invocation.progress("verifying") as progress:
            report = verify_vault(part.opened, progress)
        refuse_damage(part, report)
        charter, seat = charter_of(part.opened), part.opened.replica.seat
    fingerprint = seat.administrators_fingerprint if seat is not None else ""
    result = {
        "path": charter.path,
        "revision": charter.serial,
        "administrators_fingerprint": fingerprint,
        "record_count": log.size,
        "secret_count": report.secrets,
        "version_count": report.versions,
        "sealed_count": report.sealed,
    }
    invocation.emit(
        result,
        f"charter  of {charter.path}, revision {charter.serial}, signed by its administrators",
        f"administrators  {fingerprint}",
        f"log      {counted(log.size, 'record')}: sound",
        f"secrets  {report.secrets} with {counted(report.versions, 'version')}, the scope's documents included: sound",
        *([f"sealed   {counted(report.sealed, 'version')} that this key does not open"] if report.sealed else []),
    )


@scope.command(examples=("securecfg scope collect payments --key identity:pay.identity",))
@click.argument("path")
@common_flags
def collect(invocation: Invocation, *, path: str) -> None:
    """Take in all values that were dropped into a sealed scope and wait, and say what became of them.

    Whoever reads and writes the scope can, and takes in some whenever it opens the scope. Each value becomes a version
    in the name of who dropped it; what was not dropped by somebody who may is removed, and recorded.
    """
    from securecfg.vault.drops.collecting import Collection
    from securecfg.vault.drops.rows import count_waiting

    with invocation.open() as vault:
        part = vault.scope(path)
        with invocation.progress("taking in") as progress:
            done = Collection(part.authority).run(progress=progress).after(part.opened.collected)
        left = count_waiting(part.opened.store)
    refused = sum(done.refused.values())
    result = {
        "path": path,
        "secrets": [{"path": name, "version": number} for name, number in done.versions],
        "refused": dict(sorted(done.refused.items())),
        "waiting": left,
    }
    lines = [f"written  {name}@{number}" for name, number in done.versions]
    if refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(done.refused.items()))
        lines.append(f"refused  {counted(refused, 'value')}: {reasons}")
    if left:
        lines.append(f"left     {counted(left, 'value')} for somebody else to take in")
    invocation.emit(result, *(lines or ["nothing waits"]))


scope.add_command(administrators)
scope.add_command(sign)


def _change(  # noqa: PLR0917 - of two commands
    invocation: Invocation,
    path: str,
    wanted: dict[str, tuple[str, ...]],
    change: Callable[[Scopes, str, str], ScopeInfo],
    signing: SigningOptions,
    dry_run: bool,  # noqa: FBT001 - a flag of the command
    *,
    confirm: Callable[[ScopeInfo], None] = lambda _: None,
) -> ScopeInfo | None:
    """Make changes for each role and right, and return what the scope is like afterwards."""
    from securecfg.vault.scopes.scopes import Scopes

    changes = [(role, right) for right, roles in wanted.items() for role in roles]
    if not changes:
        message = "nothing to change is named"
        raise UsageError(message, hint="name a role: `--read role:NAME`")
    with signing.open(invocation) as (vault, sign_for):
        scopes = Scopes.with_signing(vault.authority, sign_for)
        info = scopes.show(path)
        if dry_run:
            result = {
                "path": info.path,
                "roles": {right: list(roles) for right, roles in wanted.items()},
                "is_done": False,
            }
            invocation.emit(result, *(f"would change  {right} of {role} in {info.path}" for role, right in changes))
            return None
        confirm(info)
        for role, right in changes:
            info = change(scopes, role, right)
    return info


def _reader(invocation: Invocation, uri: str | None) -> IdentityProvider | None:
    """Return the identity that reads what is moved.

    Raises:
        UsageError: What is named is not an identity.
    """
    from securecfg.keys import IdentityProvider, open_provider

    if uri is None:
        return None
    provider = open_provider(uri, ask=invocation.ask)
    if not isinstance(provider, IdentityProvider):
        message = f"`{uri}` is not an identity"
        raise UsageError(message, hint="roles are opened by identities: `--with identity:FILE`")
    return provider


def _as_object(info: ScopeInfo) -> dict[str, Any]:
    return {
        "path": info.path,
        "shared": info.is_shared,
        "revision": info.revision,
        "roles": {role: list(rights) for role, rights in sorted(info.roles.items())},
        "value_epochs": info.value_epochs,
        "waiting": info.waiting,
        "excluded": list(info.excluded),
    }


def _emit(invocation: Invocation, info: ScopeInfo, word: str, moved: Moved | None = None) -> None:
    result, lines = _as_object(info), _lines(info, word)
    if moved is not None:
        result |= {"secret_count": moved.secrets, "version_count": moved.versions}
        lines.append(f"moved  {counted(moved.secrets, 'secret')}, {counted(moved.versions, 'version')}")
    invocation.emit(result, *lines)


def _lines(info: ScopeInfo, word: str) -> list[str]:
    kind = "shared with the vault's root" if info.is_shared else "sealed, also from the vault's root"
    lines = [f"{word}{info.path} ({kind}), revision {info.revision}"]
    lines += [f"  {role}: {', '.join(rights)}" for role, rights in sorted(info.roles.items())]
    if info.waiting:
        lines.append(f"  {counted(info.waiting, 'dropped value')} waiting")
    return lines + [f"  without {subtree}, a scope of its own" for subtree in info.excluded]


for command in (break_glass, introduce):
    scope.add_command(command)
