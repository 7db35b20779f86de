"""`securecfg init`: a vault for this project, in one step."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.principals import fit_name, login
from securecfg.errors import AlreadyExists, ExtraMissing, KeyProviderRefused, KeyProviderUnavailable, StoreFailed

if TYPE_CHECKING:
    from securecfg.secret import Secret
    from securecfg.vault import Vault

_FOLDER = ".securecfg"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What will be made."""

    folder: Path
    project: str
    vault: Path
    principal: str


@click.command(cls=Verb, examples=("securecfg init", "securecfg init --key passphrase:"))
@common_flags
def init(invocation: Invocation) -> None:
    """Give this project a vault, a key, a policy and a recovery code.

    The vault is `.securecfg/PROJECT.vault`, which git ignores. Its key lies in the operating system's keyring, or where
    there is none in a file of yours outside the project. You become its administrator. `securecfg.toml` keeps these
    choices, so that no flag is needed afterwards.
    """
    plan = _plan(invocation)
    made: list[Path] = []
    try:
        key, said, vault = _create(invocation, plan, made)
        with vault:
            code = _furnish(vault, plan)
        _write_settings(plan, key, made)
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
    shown = os.path.relpath(plan.vault)
    ignored = " (git-ignored)" if plan.vault.parent.name == _FOLDER else ""
    result = {
        "vault": str(plan.vault),
        "key": key,
        "principal": plan.principal,
        "service": f"svc:{plan.project}",
        "settings": str(plan.folder / "securecfg.toml"),
        "recovery_code": code.reveal(),
    }
    invocation.emit(
        result,
        f"vault  {shown}{ignored}   key  {said}   you  {plan.principal} (admin)",
        f"recovery code {code.reveal()} (shown once)   next: {_next_step(plan.folder)}",
    )


def _plan(invocation: Invocation) -> _Plan:
    from securecfg.vault.paths import check_principal
    from securecfg.vault.settings import read_project

    folder = Path.cwd()
    existing = read_project(folder)
    if existing.file is not None and existing.folder == folder:
        settled = existing.values.get("vault", "")
        if settled and not Path(settled).exists():
            message = f"`{existing.file.name}` names the vault `{os.path.relpath(settled)}`, which is not here"
            hint = "copy the vault and a key for it here; without these settings `securecfg init` begins anew"
            raise AlreadyExists(message, hint=hint)
        message = f"this project has a vault already, named in `{existing.file.name}`"
        raise AlreadyExists(message, hint="`securecfg vault status` shows it")
    project = fit_name(folder.name) or "project"
    named = invocation.vault or os.environ.get("SECURECFG_VAULT")
    vault = Path(named or folder / _FOLDER / f"{project}.vault").absolute()
    principal = invocation.principal or os.environ.get("SECURECFG_AS") or login()
    return _Plan(folder, project, vault, check_principal(principal))


def _create(invocation: Invocation, plan: _Plan, made: list[Path]) -> tuple[str, str, Vault]:
    """Create the vault under the first key that works; return the key's URI, what to call it, and the vault."""
    _make_folder(plan.vault.parent, made)
    named = invocation.key or os.environ.get("SECURECFG_KEY")
    if named:
        return named, named.partition(":")[0], _create_vault(invocation, plan, named, made)
    try:
        return "keyring:", "operating system keyring", _create_vault(invocation, plan, "keyring:", made)
    except (ExtraMissing, KeyProviderUnavailable, KeyProviderRefused) as error:
        file = _create_key_file(plan, made)
        said = f"{_home_relative(file)} (mode 0600; {error.message})"
        return f"file:{_home_relative(file)}", said, _create_vault(invocation, plan, f"file:{file}", made)


def _make_folder(folder: Path, made: list[Path]) -> None:
    if folder.exists() or folder.name != _FOLDER:
        return
    from securecfg.files import create_private

    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        message = f"cannot create `{folder}`: {error.strerror}"
        raise StoreFailed(message) from None
    made.append(folder)
    create_private(folder / ".gitignore", b"*\n")
    made.append(folder / ".gitignore")


def _create_vault(invocation: Invocation, plan: _Plan, key: str, made: list[Path]) -> Vault:
    from securecfg.cli.new_keys import open_new_provider, warn_if_weak
    from securecfg.vault import Vault

    provider = open_new_provider(invocation, key)
    vault = Vault.create(plan.vault, key=provider, admin=plan.principal)
    made.append(plan.vault)
    warn_if_weak(invocation, provider)
    return vault


def _create_key_file(plan: _Plan, made: list[Path]) -> Path:
    from securecfg.keys import generate_key_file

    home = os.environ.get("XDG_CONFIG_HOME", "")
    folder = (Path(home) if home.startswith("/") else Path.home() / ".config") / "securecfg" / "keys"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot create `{folder}`: {error.strerror}"
        raise StoreFailed(message) from None
    path = folder / f"{plan.project}-{secrets.token_hex(2)}.key"
    generate_key_file(path)
    made.append(path)
    return path


def _furnish(vault: Vault, plan: _Plan) -> Secret[str]:
    """Give the vault its recovery code and its first policy; return the code."""
    from securecfg.keys import RecoveryProvider, generate_recovery_code
    from securecfg.policy import default_documents
    from securecfg.vault.slots import Slots

    code = generate_recovery_code()
    Slots(vault.authority).add(RecoveryProvider(code), label="recovery code")
    vault.administration.apply_policy(default_documents(plan.project, plan.principal))
    return code


def _write_settings(plan: _Plan, key: str, made: list[Path]) -> None:
    from securecfg.files import write_atomically

    vault = plan.vault.relative_to(plan.folder) if plan.vault.is_relative_to(plan.folder) else plan.vault
    settings = {"vault": str(vault), "key": key, "as": plan.principal, "service": f"svc:{plan.project}"}
    # TOML's basic strings take JSON's escapes.
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}\n" for name, text in settings.items()]
    path = plan.folder / "securecfg.toml"
    write_atomically(
        path, "".join(("# Which vault this project uses. Nothing in here is secret.\n", *lines)).encode(), mode=0o644
    )
    made.append(path)


def _next_step(folder: Path) -> str:
    found = [name for name, entry in ((".env", ".env"), ("config/", "config")) if (folder / entry).exists()]
    return f"securecfg import {' '.join(found)}" if found else "securecfg secret put NAME"


def _home_relative(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
