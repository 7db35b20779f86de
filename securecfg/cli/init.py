"""`securecfg init`: a vault for this project, in one step; and a place in a project that has one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.principals import fit_name, login
from securecfg.errors import (
    AlreadyExists,
    ExtraMissing,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SettingMissing,
    VaultNotFound,
)

if TYPE_CHECKING:
    from securecfg.cli.project_files import Footprints
    from securecfg.secret import Secret
    from securecfg.vault import Vault
    from securecfg.vault.settings import Project


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be made.

    Attributes:
        folder: The project's folder.
        name: The name of the project's service, without `svc:`.
        vault: Where the vault is or will be.
        principal: Who will use it.
        shared: The settings that the team shares, where they are there already.
        is_own_place: Whether the vault's place is one person's choice and not the team's.
    """

    folder: Path
    name: str
    vault: Path
    principal: str
    shared: Path | None
    is_own_place: bool


@click.command(
    cls=Verb,
    examples=(
        "securecfg init",
        "securecfg init --key passphrase:",
        "securecfg init --key file:~/shop.key --as user:bo      # in a clone, with a key that somebody gave you",
    ),
)
@common_flags
def init(invocation: Invocation) -> None:
    """Give this project a vault, a key, a policy and a recovery code.

    The vault is `.securecfg/PROJECT.vault`, which git ignores. Its key lies in the operating system's keyring, or where
    there is none in a file of yours outside the project. You become its administrator. `securecfg.toml` notes what all
    who work on the project share, `.securecfg/local.toml` your key and your name, so that no flag is needed afterwards.

    In a clone the shared settings are there already. If the vault that they name is here too, it is opened with your
    key, and only what is yours is noted; else a vault of your own is made in its place, if you say yes.
    """
    from securecfg.vault.settings import Project, read_project

    folder = Path.cwd()
    found = read_project(folder)
    # Settings of a folder above belong to another project.
    project = found if found.file is not None and found.folder == folder else Project(None, {})
    plan = _plan(invocation, folder, project)
    if plan.shared is None:
        _begin(invocation, plan)
    elif plan.vault.exists():
        _join(invocation, plan, project)
    else:
        _confirm_own(invocation, plan)
        _begin(invocation, plan)


def _plan(invocation: Invocation, folder: Path, project: Project) -> _Plan:
    from securecfg.vault.paths import check_principal
    from securecfg.vault.settings import LOCAL_FOLDER

    values = project.values
    service = values.get("service", "")
    name = service.removeprefix("svc:") if service.startswith("svc:") else fit_name(folder.name) or "project"
    named = invocation.vault or os.environ.get("SECURECFG_VAULT")
    vault = Path(named or values.get("vault") or folder / LOCAL_FOLDER / f"{name}.vault").absolute()
    # A place in somebody's home means nothing to others, unless the whole project lies there.
    is_own = vault.is_relative_to(Path.home()) and not vault.is_relative_to(folder)
    said = invocation.principal or os.environ.get("SECURECFG_AS")
    principal = said or _proved(invocation) or values.get("as") or login()
    return _Plan(
        folder=folder,
        name=name,
        vault=vault,
        principal=check_principal(principal),
        shared=project.file,
        is_own_place=is_own or (project.file is not None and bool(named)),
    )


def _proved(invocation: Invocation) -> str:
    """Return whose identity the key is, if it is one."""
    from securecfg.keys import open_provider
    from securecfg.vault.creation import proved_principals

    named = invocation.key or os.environ.get("SECURECFG_KEY")
    return next(iter(proved_principals(open_provider(named))), "") if named else ""


# --- a new vault ------------------------------------------------------------------------------------------------------


def _begin(invocation: Invocation, plan: _Plan) -> None:
    from securecfg.cli.project_files import Footprints, make_local_folder, write_local, write_shared
    from securecfg.vault.settings import LOCAL_FOLDER

    made = Footprints()
    try:
        make_local_folder(plan.folder, made)
        key, said, vault = _create(invocation, plan, made)
        with vault:
            code = _furnish(vault, plan)
        if plan.shared is None:
            write_shared(plan.folder, _shared_settings(plan), made)
        write_local(plan.folder, _local_settings(plan, key), made)
    except BaseException:
        # What is there by half could neither be used nor made again.
        made.remove()
        raise
    if _names_code(key):
        invocation.note("note: settings run no program and load no library, so name the key in SECURECFG_KEY")
    ignored = " (git-ignored)" if plan.vault.parent == plan.folder / LOCAL_FOLDER else ""
    invocation.emit(
        _described(plan, key) | {"is_new": True, "recovery_code": code.reveal()},
        f"vault  {os.path.relpath(plan.vault)}{ignored}   key  {said}   you  {plan.principal} (admin)",
        f"recovery code {code.reveal()} (shown once)   next: {_next_step(plan)}",
    )


def _create(invocation: Invocation, plan: _Plan, made: Footprints) -> tuple[str, str, Vault]:
    """Create the vault under the first key that works; return the key's URI, what to call it, and the vault."""
    from securecfg.cli.project_files import create_key_file, home_relative

    named = invocation.key or os.environ.get("SECURECFG_KEY")
    if named:
        return named, named.partition(":")[0], _create_vault(invocation, plan, named, made)
    try:
        return "keyring:", "operating system keyring", _create_vault(invocation, plan, "keyring:", made)
    except (ExtraMissing, KeyProviderUnavailable, KeyProviderRefused) as error:
        file = create_key_file(plan.name, made)
        said = f"{home_relative(file)} (mode 0600; {error.message})"
        return f"file:{home_relative(file)}", said, _create_vault(invocation, plan, f"file:{file}", made)


def _create_vault(invocation: Invocation, plan: _Plan, key: str, made: Footprints) -> Vault:
    from securecfg.cli.new_keys import create_vault, open_new_provider, warn_if_weak

    provider = open_new_provider(invocation, key)
    vault = create_vault(plan.vault, provider, plan.principal)
    made.add(plan.vault)
    warn_if_weak(invocation, provider)
    return vault


def _furnish(vault: Vault, plan: _Plan) -> Secret[str]:
    """Give the vault its recovery code and its first policy; return the code."""
    from securecfg.keys import RecoveryProvider, generate_recovery_code
    from securecfg.policy import default_documents
    from securecfg.vault.keys.slots import Slots

    code = generate_recovery_code()
    Slots(vault.authority).add(RecoveryProvider(code), label="recovery code")
    vault.administration.apply_policy(default_documents(plan.name, plan.principal))
    return code


def _next_step(plan: _Plan) -> str:
    if plan.shared is not None:
        return "securecfg config show   (the secrets that this project refers to)"
    found = [name for name, entry in ((".env", ".env"), ("config/", "config")) if (plan.folder / entry).exists()]
    return f"securecfg import {' '.join(found)}" if found else "securecfg secret put NAME"


# --- a project that has one -------------------------------------------------------------------------------------------


def _join(invocation: Invocation, plan: _Plan, project: Project) -> None:
    """Note the key and the name of somebody who comes to a vault that is there."""
    from securecfg.cli.project_files import Footprints, make_local_folder, write_local

    named = invocation.key or os.environ.get("SECURECFG_KEY")
    is_settled = {"key", "as"} <= project.values.keys() and not (named or invocation.principal)
    if project.local is not None or is_settled:
        message = f"this project has a vault already, named in `{_shared_name(plan)}`"
        raise AlreadyExists(message, hint="`securecfg vault status` shows it")
    key = named or project.values.get("key")
    if not key:
        message = f"the vault that `{_shared_name(plan)}` names is here, and no key of yours is named"
        hint = "an administrator makes one for you with `securecfg key add`; then run `securecfg init --key URI`"
        raise SettingMissing(message, hint=hint)
    with invocation._replace(vault=str(plan.vault), key=key).open(principal=plan.principal):
        pass
    made = Footprints()
    try:
        make_local_folder(plan.folder, made)
        write_local(plan.folder, _local_settings(plan, key), made)
    except BaseException:
        # As where the project is made.
        made.remove()
        raise
    invocation.emit(
        _described(plan, key) | {"is_new": False},
        f"vault  {os.path.relpath(plan.vault)}   key  {key.partition(':')[0]}   you  {plan.principal}",
    )


def _confirm_own(invocation: Invocation, plan: _Plan) -> None:
    """Ask before a vault of one's own is made in the place of one that others may have.

    Raises:
        VaultNotFound: The answer is no, or nobody can be asked.
    """
    from securecfg.cli.prompts import ask_yes, is_somebody_there

    missing = f"`{_shared_name(plan)}` names the vault `{os.path.relpath(plan.vault)}`, which is not here"
    can_ask = not invocation.is_silent and is_somebody_there()
    if invocation.is_confirmed or (can_ask and ask_yes(f"{missing}. Make one of your own there?")):
        return
    hint = "bring it here and take a key for it, or make one of your own with `securecfg init --yes`"
    raise VaultNotFound(missing, hint=hint)


# --- settings ---------------------------------------------------------------------------------------------------------


def _shared_settings(plan: _Plan) -> dict[str, str]:
    vault = {} if plan.is_own_place else {"vault": _place_of(plan)}
    return vault | {"service": f"svc:{plan.name}"}


def _local_settings(plan: _Plan, key: str) -> dict[str, str]:
    vault = {"vault": _place_of(plan)} if plan.is_own_place else {}
    own = {} if _names_code(key) else {"key": key}
    return vault | own | {"as": plan.principal}


def _names_code(key: str) -> bool:
    """Return whether a key is one that settings do not name: they may travel with the project."""
    from securecfg.keys.uri import names_code

    return names_code(key)


def _place_of(plan: _Plan) -> str:
    return str(plan.vault.relative_to(plan.folder) if plan.vault.is_relative_to(plan.folder) else plan.vault)


def _shared_name(plan: _Plan) -> str:
    from securecfg.vault.settings import SETTINGS_FILE

    return plan.shared.name if plan.shared is not None else SETTINGS_FILE


def _described(plan: _Plan, key: str) -> dict[str, object]:
    from securecfg.vault.settings import LOCAL_FILE, LOCAL_FOLDER

    return {
        "vault": str(plan.vault),
        "key": key,
        "principal": plan.principal,
        "service": f"svc:{plan.name}",
        "settings": str(plan.folder / _shared_name(plan)),
        "local_settings": str(plan.folder / LOCAL_FOLDER / LOCAL_FILE),
    }
