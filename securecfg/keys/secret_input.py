"""Where a passphrase or a code comes from: a person, a variable, a descriptor or a file, named in a key URI."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from securecfg.errors import InvalidKeyUri, KeyProviderRefused, KeyProviderUnavailable, SettingMissing
from securecfg.keys.keyfile import read_private_file
from securecfg.keys.once import once
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from securecfg.keys.provider import Ask, KeyUri

LIMIT_BYTES = 4096

_EXAMPLES = {"env": "NAME", "fd": "3", "file": "PATH"}

_SOURCE = re.compile(
    r"\?(?:env=(?P<env>[A-Za-z_][A-Za-z0-9_]{0,254})|fd=(?P<fd>[0-9]{1,9})|file=(?P<file>[^\x00]+))", re.ASCII
)
_PARAMETER = re.compile(r"\?[A-Za-z][A-Za-z0-9_-]*=", re.ASCII)
_SECOND_PARAMETER = re.compile(r"[?&][A-Za-z][A-Za-z0-9_-]*=", re.ASCII)
_SOURCE_AT_END = re.compile(r"\?(?:env=[A-Za-z_][A-Za-z0-9_]{0,254}|fd=[0-9]{1,9})\Z", re.ASCII)


def open_secret_input(uri: KeyUri, ask: Ask | None, *, what: str, sources: Collection[str]) -> Secret[str]:
    """Return the secret that a URI such as `passphrase:?env=NAME` stands for. It is fetched at its first `reveal()`.

    Args:
        uri: `SCHEME:`, or `SCHEME:?SOURCE=NAME` with one source.
        ask: Asks a person, when the URI names no source.
        what: What the secret is called in prompts and errors.
        sources: Which of `env`, `fd` and `file` the URI may name.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    name = uri.scheme
    if not uri.rest:
        return _once(lambda: _ask(ask, what, name), what)
    match = _SOURCE.fullmatch(uri.rest)
    if (
        match is None
        or (source := match.lastgroup) is None
        or source not in sources
        or _SECOND_PARAMETER.search(match[source])
    ):
        # The rest is not shown: somebody may have written the secret itself there.
        del match
        message = f"a `{name}:` key is `{name}:` or names one source"
        hint = "for instance " + ", ".join(f"`{name}:?{known}={_EXAMPLES[known]}`" for known in sources)
        raise InvalidKeyUri(message, hint=hint)
    value = match[source]
    if source == "env":
        return _once(lambda: _from_variable(value, what), what)
    if source == "fd":
        return _once(lambda: _from_descriptor(int(value), what), what)
    path = os.path.expanduser(value)  # noqa: PTH111 - `Path.expanduser` fails for an unknown user
    return _once(lambda: _decode(read_private_file(path, LIMIT_BYTES), what), what)


def has_parameter(path: str) -> bool:
    """Return whether something behind a path looks like a parameter, which nothing would use: `PATH?NAME=VALUE`."""
    return _PARAMETER.search(path) is not None


def split_source(uri: KeyUri) -> tuple[str, str]:
    """Return the path of a URI such as `SCHEME:PATH?env=NAME`, and the source after it, `?env=NAME`, `?fd=N` or empty.

    `~` is the home directory. The path is empty where there is none, where it cannot be one, or where another parameter
    stands behind it.
    """
    match = _SOURCE_AT_END.search(uri.rest)
    source = match[0] if match is not None else ""
    path = uri.rest[: len(uri.rest) - len(source)]
    # `Path.expanduser` fails for an unknown user.
    return ("" if "\x00" in path or has_parameter(path) else os.path.expanduser(path)), source  # noqa: PTH111 - see above


def _once(load: Callable[[], str], what: str) -> Secret[str]:
    """Return a secret that is fetched once, however often it is revealed: a descriptor can be read once."""
    return Secret.deferred(once(load), label=what)


def _ask(ask: Ask | None, what: str, scheme: str) -> str:
    if ask is None:
        message = f"a {what} is needed and there is nobody to ask"
        raise SettingMissing(message, hint=f"use `{scheme}:?env=NAME` or `{scheme}:?fd=N`")
    return _bounded(ask(what), what)


def _from_variable(name: str, what: str) -> str:
    variable = os.fsencode(name)
    if variable not in os.environb:
        message = f"the environment variable `{name}`, which should hold the {what}, is not set"
        raise SettingMissing(message)
    return _decode(os.environb[variable], what)


def _from_descriptor(descriptor: int, what: str) -> str:
    content = bytearray()
    try:
        size = -1
        while size < len(content) <= LIMIT_BYTES:
            size = len(content)
            content += os.read(descriptor, LIMIT_BYTES)
        return _decode(bytes(content), what)
    except OSError as error:
        message = f"cannot read the {what} from file descriptor {descriptor}: {error.strerror}"
        raise KeyProviderUnavailable(message) from None
    finally:
        content[:] = bytes(len(content))


# What raises below forgets the text first: a traceback that shows locals must not show it.


def _decode(raw: bytes, what: str) -> str:
    try:
        return _bounded(raw.decode().removesuffix("\n").removesuffix("\r"), what)
    except UnicodeDecodeError:
        message = f"the {what} is not UTF-8"
        raise KeyProviderRefused(message) from None
    finally:
        del raw


def _bounded(text: str, what: str) -> str:
    if not text:
        message = f"the {what} is empty"
        raise KeyProviderRefused(message)
    if len(text) > LIMIT_BYTES:
        del text
        message = f"the {what} is longer than {LIMIT_BYTES} characters"
        raise KeyProviderRefused(message)
    return text
