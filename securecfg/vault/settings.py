"""Which vault, key and principal: from arguments, the environment, or the settings files of the project.

The settings that a project shares are `securecfg.toml`, or the table `[tool.securecfg]` of `pyproject.toml`, in the
working directory or the nearest folder above it. Beside it, in the folder `.securecfg` that git ignores, may lie
`local.toml` with the settings of one person, which win. Relative paths in both are relative to the project's folder.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

from securecfg.errors import ConfigSyntaxError, ConfigTypeError, SettingMissing
from securecfg.files import read_bounded
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import Ask, KeyProvider
    from securecfg.vault.bundles.sinks import AuditSink

SETTINGS_FILE = "securecfg.toml"
LOCAL_FOLDER = ".securecfg"
LOCAL_FILE = "local.toml"
SETTINGS_BYTES_MAX = 1 << 20
_KEYS_IN_FILES = frozenset({"file", "identity", "passphrase+file"})
_SHARES = "?shares="
_KEYS_WITH_CODE = frozenset({"command", "pkcs11"})
_NAMES = frozenset({"vault", "key", "as", "service", "audit", "issuer"})
_AT = r" \(at (?:line (\d+), column (\d+)|end of document)\)$"


class Settings(NamedTuple):
    """What to open.

    Attributes:
        vault: The path of the vault.
        key: A key URI, or a provider.
        principal: On whose behalf; empty where nobody says.
    """

    vault: str
    key: str | KeyProvider
    principal: str


class Project(NamedTuple):
    """The settings of a project.

    Attributes:
        file: The file that all who work on the project share, or None where there is none.
        values: What counts: `vault`, `key`, `as`; `service`, on whose behalf `securecfg run` acts; `audit` and `issuer`
            of a bundle.
        local: The file of one person, whose settings win; None where there is none.
    """

    file: Path | None
    values: dict[str, str]
    local: Path | None = None

    @property
    def folder(self) -> Path:
        """The project's folder; the working directory where there is no file."""
        from pathlib import Path

        return Path.cwd() if self.file is None else self.file.parent


def find_settings(
    vault: str | os.PathLike[str] | None,
    key: str | KeyProvider | None,
    principal: str | None,
) -> Settings:
    """Complete what a caller gives from the environment and the settings file.

    A key that proves whose it is needs no principal, so the one in the settings file is for other keys.

    Raises:
        SettingMissing: No vault or no key is given or found.
        ConfigSyntaxError: The settings file is not TOML.
        ConfigTypeError: A setting is not text, or is not known.
    """
    names = {"vault": "SECURECFG_VAULT", "key": "SECURECFG_KEY", "as": "SECURECFG_AS"}
    given = {"vault": vault, "key": key, "as": principal}
    chosen: dict[str, Any] = {
        name: value if value is not None else os.environ.get(names[name]) or None for name, value in given.items()
    }
    found = _find_project(os.getcwd())[1] if None in chosen.values() else {}
    for name, value in chosen.items():
        # Nobody needs to say on whose behalf where the key does.
        if value is None and not (name == "as" and chosen["key"] and proves_principal(chosen["key"])):
            chosen[name] = found.get(name)
    for name, flag in (("vault", "--vault"), ("key", "--key")):
        if not chosen[name]:
            message = f"no {name} is named"
            hint = f"give {flag}, set {names[name]}, or run `securecfg init` in the project"
            raise SettingMissing(message, hint=hint)
    return Settings(os.fspath(chosen["vault"]), chosen["key"], chosen["as"] or "")


def find_bundle_settings(path: str, audit: str | AuditSink | None, issuer: str | None) -> tuple[str | AuditSink, str]:
    """Complete what a caller says of a bundle: where its records go, and whom it must come from. Both may be empty.

    Settings files say it of the bundle that they name as `vault`, and of no other.

    Raises:
        ConfigSyntaxError, ConfigTypeError: As for `find_settings`.
    """
    sink = audit if audit is not None else os.environ.get("SECURECFG_AUDIT") or None
    vkey = issuer if issuer is not None else os.environ.get("SECURECFG_ISSUER") or None
    found = _find_project(os.getcwd())[1] if sink is None or vkey is None else {}
    if os.path.abspath(found.get("vault", "")) != os.path.abspath(path):
        found = {}
    return found.get("audit", "") if sink is None else sink, found.get("issuer", "") if vkey is None else vkey


def proves_principal(key: str | KeyProvider) -> bool:
    """Return whether a key, or the key that a URI names, proves whose it is."""
    if isinstance(key, str):
        return _scheme_of(key) == "identity"
    from securecfg.keys import proves_principal

    return proves_principal(key)


def _scheme_of(key: str) -> str:
    return key.partition(":")[0].lower()


def read_project(directory: Path) -> Project:
    """Return the settings of the nearest project from a folder upwards, relative paths in them made absolute.

    Raises:
        ConfigSyntaxError: A file is not TOML.
        ConfigTypeError: A setting is not text, is not known or would run a program; or a file is somebody else's,
            laid where everybody may write.
    """
    from pathlib import Path

    file, values, local = _find_project(str(directory))
    return Project(Path(file) if file else None, values, Path(local) if local else None)


def _find_project(directory: str) -> tuple[str | None, dict[str, str], str | None]:
    for folder in _upwards(directory):
        shared = _read_shared(folder)
        if shared is None:
            continue
        file, values = shared
        local = os.path.join(folder, LOCAL_FOLDER, LOCAL_FILE)
        if not os.path.isfile(local):
            return file, values, None
        _refuse_planted(local, folder)
        return file, values | _checked(_parse(local), local, folder), local
    return None, {}, None


def _upwards(folder: str) -> Iterator[str]:
    """Yield a folder and every folder around it, the nearest first."""
    yield folder
    while folder != (around := os.path.dirname(folder)):
        yield (folder := around)


def _read_shared(folder: str) -> tuple[str, dict[str, str]] | None:
    own = os.path.join(folder, SETTINGS_FILE)
    if os.path.isfile(own):
        _refuse_planted(own, folder)
        return own, _checked(_parse(own), own, folder)
    project = os.path.join(folder, "pyproject.toml")
    if os.path.isfile(project):
        tools = _parse(project).get("tool")
        table = tools.get("securecfg") if isinstance(tools, dict) else None
        if table is not None:
            _refuse_planted(project, folder)
            return project, _checked(table, project, folder)
    return None


def terminal_asker() -> Ask | None:
    """Return what asks a person on the terminal without showing the answer, or None where there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    from getpass import getpass

    return getpass


def _refuse_planted(path: str, folder: str) -> None:
    """Refuse settings that somebody else laid where everybody may: they choose into whose vault secrets are written.

    Raises:
        ConfigTypeError: The file's folder, or the project's, can be written by everybody, and the file is not this
            user's.
    """
    places = {os.path.dirname(path), folder}
    if sys.platform == "win32" or not any(os.stat(place).st_mode & stat.S_IWOTH for place in places):
        return
    if {os.stat(path).st_uid, os.lstat(path).st_uid} - {os.geteuid(), 0}:
        message = "the settings belong to another user, in a folder that everybody can write"
        raise ConfigTypeError(message, place=path, hint="keep your project in a folder of your own")


def _parse(path: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(read_bounded(path, SETTINGS_BYTES_MAX).decode())
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = re.search(_AT, said)
        place = f"{path}:{found[1]}:{found[2]}" if found and found[1] else path
        message = re.sub(_AT, "", said[:1].lower() + said[1:])
        raise ConfigSyntaxError(message, place=place, hint=_TOML_HINT) from None
    except UnicodeDecodeError:
        message = "the settings are not UTF-8"
        raise ConfigSyntaxError(message, place=path, hint=_TOML_HINT) from None
    except RecursionError:
        message = "the settings are nested too deeply"
        raise ConfigSyntaxError(message, place=path, hint=_TOML_HINT) from None


_TOML_HINT = 'settings are TOML, such as `vault = ".securecfg/shop.vault"`'


def _checked(table: Any, path: str, folder: str) -> dict[str, str]:  # noqa: ANN401 - whatever the file holds
    if not isinstance(table, dict):
        message = "the settings are not a table"
        raise ConfigTypeError(message, place=path, hint="write `[tool.securecfg]` and the settings below it")
    settings = {}
    for name, value in table.items():
        if name not in _NAMES:
            message = f"unknown setting `{name}`"
            raise ConfigTypeError(
                message, place=path, hint="settings are `vault`, `key`, `as`, `service`, `audit` and `issuer`"
            )
        if not isinstance(value, str):
            message = f"the setting `{name}` is not text"
            raise ConfigTypeError(message, place=path, hint=f'put it into quotes, as in `{name} = "..."`')
        settings[name] = value
    if settings.get("issuer") == "unverified":
        # They may have come with somebody else's project.
        message = "settings do not make a bundle trusted, so their `issuer` is a verifier key"
        raise ConfigTypeError(message, place=path, hint="take it out; give `--issuer unverified` where you mean it")
    if settings.get("audit", "").startswith("file:"):
        settings["audit"] = f"file:{_located(settings['audit'].removeprefix('file:'), folder)}"
    if "vault" in settings:
        settings["vault"] = _located(settings["vault"], folder)
    if "key" in settings:
        settings["key"] = _key_of_settings(settings["key"], path, folder)
    return settings


def _key_of_settings(key: str, path: str, folder: str) -> str:
    scheme, _, rest = key.partition(":")
    if scheme.lower() == "identity" and _SHARES in rest:
        path, _, files = rest.partition(_SHARES)
        located = ",".join(_located(file, folder) if file else "" for file in files.split(","))
        return f"identity:{_located(path, folder)}{_SHARES}{located}"
    if scheme.lower() in _KEYS_IN_FILES:
        return f"{scheme.lower()}:{_located(rest, folder)}" if rest else key
    if scheme.lower() == "composite":
        from securecfg.keys.parts import join_uris, split_uris

        needed, uris = split_uris(rest)
        return join_uris(needed, [_key_of_settings(uri, path, folder) for uri in uris])
    if scheme.lower() not in _KEYS_WITH_CODE:
        return key
    from securecfg.keys.uri import names_code  # with it comes cryptography, which configuration does not need

    if names_code(key):
        # They may have come with somebody else's project.
        by_path = {"command": "is no `command:`", "pkcs11": "has no `module-path`"}[scheme.lower()]
        message = f"settings run no program and load no library, so their `key` {by_path}"
        own = "give it with --key or in SECURECFG_KEY"
        hint = f"take it out, and {own}"
        if scheme.lower() == "pkcs11":
            hint = f"write `module-name=` for a library of the system, or take the key out and {own}"
        raise ConfigTypeError(message, place=path, hint=hint)
    return key


def _located(path: str, folder: str) -> str:
    return os.path.join(folder, os.path.expanduser(path))
