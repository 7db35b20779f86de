"""A configuration as environment variables.

A name of a `.env` file stays as it is written. Any other value is named by its keys, joined by `_`, in upper case:
`database.url` is `DATABASE_URL`. Numbers and booleans are written as JSON writes them, lists as JSON; what is null is
left out.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from securecfg.config.origins import locate
from securecfg.config.references import ReferringSecret, located, resolve_all, unquoted
from securecfg.config.tree import Config
from securecfg.errors import ConfigErrors, ConfigTypeError, SecurecfgError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.config.references import Reference
    from securecfg.secret import Secret

_UNUSUAL = re.compile(r"[^A-Z0-9_]")
_Keys = tuple[str, ...]
_Outcomes = dict["Reference", "Secret[str] | Secret[bytes] | SecurecfgError"]


def to_environment(config: Config) -> dict[str, bytes]:
    """Return the variables of a configuration, its secrets resolved in one call.

    Raises:
        ConfigTypeError: Two values have the same name, or a value cannot be in an environment.
        SecurecfgError: The only secret that cannot be resolved.
        ConfigErrors: Several problems.
    """
    leaves = list(_leaves(config, ()))
    outcomes = _resolve([secret for _, value in leaves for secret in _secrets(value)])
    problems: list[SecurecfgError] = []
    variables: dict[str, bytes] = {}
    keys_of: dict[str, _Keys] = {}
    for keys, value in leaves:
        try:
            name, is_own = _name(config, keys)
            if name in keys_of and is_own == _name(config, keys_of[name])[1]:
                message = f"`{'.'.join(keys)}` and `{'.'.join(keys_of[name])}` are both `{name}` in the environment"
                raise ConfigTypeError(message, place=locate(config, keys).place, hint="rename one of them")
            if name in keys_of and not is_own:
                continue
            text = _text(value, outcomes)
            if text is None:
                continue
            if b"\x00" in text:
                message = f"`{'.'.join(keys)}` contains a NUL character, which no environment can hold"
                raise ConfigTypeError(message, place=locate(config, keys).place)
        except SecurecfgError as error:
            problems.append(error)
            continue
        variables[name] = text
        keys_of[name] = keys
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigErrors(tuple(problems))
    return variables


def _leaves(config: Config, keys: _Keys) -> Iterator[tuple[_Keys, Any]]:
    for key, value in config.__dict__.items():
        if isinstance(value, Config):
            yield from _leaves(value, (*keys, key))
        else:
            yield (*keys, key), value


def _secrets(value: object) -> Iterator[ReferringSecret]:
    if isinstance(value, ReferringSecret):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets(item)
    elif isinstance(value, Config):
        for item in value.__dict__.values():
            yield from _secrets(item)


def _resolve(secrets: list[ReferringSecret]) -> _Outcomes:
    if not secrets:
        return {}
    references = unquoted(reference for secret in secrets for reference in secret.references)
    return resolve_all(references, secrets[0].resolver, secrets[0].origin)


def _name(config: Config, keys: _Keys) -> tuple[str, bool]:
    """Return the variable's name, and whether a `.env` file spells it so."""
    file = PurePath(locate(config, keys).name).name
    if file == ".env" or file.startswith(".env."):
        return "__".join(keys), True
    return _UNUSUAL.sub("_", "_".join(keys).upper()), False


def _text(value: object, outcomes: _Outcomes) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, ReferringSecret):
        content = _reveal(value, outcomes)
        return content.encode() if isinstance(content, str) else content
    if isinstance(value, tuple):
        return json.dumps(_plain(value, outcomes), ensure_ascii=False).encode()
    if isinstance(value, bool | int | float):
        return json.dumps(value).encode()
    return str(value).encode(errors="surrogateescape")


def _plain(value: object, outcomes: _Outcomes) -> object:
    if isinstance(value, ReferringSecret):
        content = _reveal(value, outcomes)
        return content if isinstance(content, str) else content.decode(errors="replace")
    if isinstance(value, tuple):
        return [_plain(item, outcomes) for item in value]
    if isinstance(value, Config):
        return {key: _plain(item, outcomes) for key, item in value.__dict__.items()}
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _reveal(secret: ReferringSecret, outcomes: _Outcomes) -> str | bytes:
    found: dict[Reference, Secret[str] | Secret[bytes]] = {}
    for reference in secret.references:
        outcome = outcomes[reference]
        if isinstance(outcome, SecurecfgError):
            raise located(outcome, secret.origin)
        found[reference] = outcome
    return secret.render(found).reveal()
