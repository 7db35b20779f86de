"""Which files are the configuration where nobody names any, and loading them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securecfg.errors import FileMissing, SettingMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from securecfg.cli.invocation import Invocation
    from securecfg.config import Config
    from securecfg.vault import Vault
    from securecfg.vault.settings import Project


def default_sources(project: Project) -> list[str]:
    """Return `config/` and `.env` of a project, where they are there.

    Raises:
        FileMissing: Neither is.
    """
    folder = os.path.relpath(project.folder)
    found = [str(path) for name in ("config", ".env") if (path := Path(folder, name)).exists()]
    if not found:
        message = f"`{project.folder}` has neither `config/` nor `.env`"
        raise FileMissing(message, hint="name what to load, for instance with `--config PATH`")
    return found


def named_only(project: Project, files: Iterable[str]) -> list[str]:
    """Return those of some files that are loaded only where they are named: neither `.env` nor right in `config/`."""
    folder = project.folder.resolve()
    placed = {file: Path(file).resolve() for file in files}
    return [file for file, at in placed.items() if at != folder / ".env" and at.parent != folder / "config"]


def load_sources(
    sources: Sequence[str], profile: str | None, vault: Vault | None = None, *, model: type[Any] | None = None
) -> Any:  # noqa: ANN401 - a configuration, or the model
    """Load sources, those of the project where none is named.

    Raises:
        As for `load`.
    """
    from securecfg.sources import load
    from securecfg.vault.settings import read_project

    wanted = list(sources) or default_sources(read_project(Path.cwd()))
    try:
        return (
            load(*wanted, model=model, profile=profile, vault=vault)
            if model
            else load(*wanted, profile=profile, vault=vault)
        )
    except FileMissing as error:
        error.hint = error.hint.replace("pass `profile=`", "give `--profile`")
        raise


@contextmanager
def loaded(invocation: Invocation, sources: Sequence[str], profile: str | None) -> Iterator[Config]:
    """Load sources; the vault is opened only where a document in it is one of them."""
    if any(source.startswith("vault:") for source in sources):
        with invocation.open() as vault:
            yield load_sources(sources, profile, vault)
    else:
        yield load_sources(sources, profile)


@contextmanager
def vault_if_any(invocation: Invocation) -> Iterator[Vault | None]:
    """Open the vault, or yield None where none is named."""
    try:
        invocation.vault_path()
    except SettingMissing:
        yield None
        return
    with invocation.open() as vault:
        yield vault
