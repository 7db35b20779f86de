"""Where a passphrase or a code comes from: a person, a variable, a descriptor or a file, named in a key URI."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from securecfg.errors import InvalidKeyUri, KeyProviderRefused, KeyProviderUnavailable, SettingMissing
from securecfg.keys.keyfile import read_private_file
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from securecfg.keys.provider import Ask, KeyUri

LIMIT_BYTES = 4096

_EXAMPLES = {"env": "NAME", "fd": "3", "file": "PATH"}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_DESCRIPTOR = re.compile(r"[0-9]{1,9}", re.ASCII)


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
    if uri.rest in {"", "?"}:
        return _once(lambda: _ask(ask, what, name), what)
    # The rest is not shown: somebody may have written the secret itself there.
    message = f"a `{name}:` key is `{name}:` or names one source"
    hint = "for instance " + ", ".join(f"`{name}:?{source}={_EXAMPLES[source]}`" for source in sources)
    try:
        options = parse_qsl(uri.rest[1:], keep_blank_values=True, strict_parsing=True, max_num_fields=1)
    except ValueError:
        options = []
    if not uri.rest.startswith("?") or len(options) != 1 or options[0][0] not in sources:
        raise InvalidKeyUri(message, hint=hint)
    source, value = options[0]
    if source == "env" and _NAME.fullmatch(value):
        return _once(lambda: _from_variable(value, what), what)
    if source == "fd" and _DESCRIPTOR.fullmatch(value):
        return _once(lambda: _from_descriptor(int(value), what), what)
    if source == "file" and value and "\x00" not in value:
        path = os.path.expanduser(value)  # noqa: PTH111 - `Path.expanduser` fails for an unknown user
        return _once(lambda: _decode(read_private_file(path, LIMIT_BYTES), what), what)
    raise InvalidKeyUri(message, hint=hint)


def _once(load: Callable[[], str], what: str) -> Secret[str]:
    """Return a secret that is fetched once, however often it is revealed: a descriptor can be read once."""
    fetched: list[str] = []
    lock = threading.Lock()

    def fetch() -> str:
        with lock:
            if not fetched:
                fetched.append(load())
            return fetched[0]

    return Secret.deferred(fetch, label=what)


def _ask(ask: Ask | None, what: str, scheme: str) -> str:
    if ask is None:
        message = f"a {what} is needed and there is nobody to ask"
        raise SettingMissing(message, hint=f"use `{scheme}:?env=NAME` or `{scheme}:?fd=N`")
    return _bounded(ask(what), what)


def _from_variable(name: str, what: str) -> str:
    raw = os.environb.get(os.fsencode(name))
    if raw is None:
        message = f"the environment variable `{name}`, which should hold the {what}, is not set"
        raise SettingMissing(message)
    return _decode(raw, what)


def _from_descriptor(descriptor: int, what: str) -> str:
    content = bytearray()
    try:
        while len(content) <= LIMIT_BYTES and (piece := os.read(descriptor, LIMIT_BYTES)):
            content += piece
        return _decode(bytes(content), what)
    except OSError as error:
        message = f"cannot read the {what} from file descriptor {descriptor}: {error.strerror}"
        raise KeyProviderUnavailable(message) from None
    finally:
        content[:] = bytes(len(content))


def _decode(raw: bytes, what: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        message = f"the {what} is not UTF-8"
        raise KeyProviderRefused(message) from None
    return _bounded(text.removesuffix("\n").removesuffix("\r"), what)


def _bounded(text: str, what: str) -> str:
    if not text:
        message = f"the {what} is empty"
        raise KeyProviderRefused(message)
    if len(text) > LIMIT_BYTES:
        message = f"the {what} is longer than {LIMIT_BYTES} characters"
        raise KeyProviderRefused(message)
    return text
