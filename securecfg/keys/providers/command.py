"""`command:` - a key that a program prints, such as that of a password manager (format, section 4.12)."""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import time
from base64 import b64decode, b64encode
from typing import IO, TYPE_CHECKING, Final, cast

from securecfg.crypto import KEY_BYTES, KeyBytes
from securecfg.errors import InvalidKeyUri, KeyProviderRefused, KeyProviderUnavailable
from securecfg.keys.kek import open_under_kek, seal_under_kek
from securecfg.keys.keyfile import parse_key
from securecfg.keys.once import once
from securecfg.keys.slots import KIND_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.keys.provider import Ask, KeyUri, WrapContext

VAULT_VARIABLE = "SECURECFG_VAULT_ID"
TIMEOUT_S = 60.0
OUTPUT_BYTES_MAX = 4096

_ENCODED_KEY_CHARACTERS = 44
# What programs exit with when trying again later may help (sysexits.h: EX_UNAVAILABLE, EX_TEMPFAIL).
_LATER = frozenset({69, 75})


class CommandProvider:
    """Runs a program when a slot is made or tried, once for each vault. There is no shell.

    The program gets this process' environment, working directory and terminal, with the vault's id in hexadecimal as
    SECURECFG_VAULT_ID; its standard input is empty, and what it writes to standard error is dropped.

    Args:
        arguments: The program, found on the PATH, and its arguments.
        timeout_s: How long it may take; a person may have to touch something.

    Raises:
        ValueError: There is no program.
    """

    scheme: Final = "command"
    kind: Final = KIND_COMMAND

    def __init__(self, arguments: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        """Hold the command without running it."""
        if not arguments or not arguments[0]:
            message = "a command names a program"
            raise ValueError(message)
        self._arguments = tuple(arguments)
        self._timeout_s = timeout_s
        self._keys: dict[bytes, Callable[[], KeyBytes]] = {}

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the key that the program prints.

        Raises:
            KeyProviderRefused: The program fails, or what it prints is not a key.
            KeyProviderUnavailable: It cannot be started, takes too long, or says that it may work later.
        """
        return seal_under_kek(self._key(context.vault_id), self.kind, b"", key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under the key that the program prints.

        Raises:
            WrongKey: It prints another key, or the bytes or the context are other ones.
            KeyProviderRefused, KeyProviderUnavailable: As for `wrap`.
        """
        return open_under_kek(self._key(context.vault_id), self.kind, wrapped, context)

    def _key(self, vault_id: bytes) -> KeyBytes:
        # Once, however many slots are tried and threads wait: the program may ask a person.
        return self._keys.setdefault(vault_id, once(lambda: self._run(vault_id)))()

    def _run(self, vault_id: bytes) -> KeyBytes:
        name = self._arguments[0]
        if os.environ.get(VAULT_VARIABLE) == vault_id.hex():
            message = f"`{name}` asks for the very key that it is to print"
            raise KeyProviderRefused(message, hint="it needs another key for this vault, as in `--key file:PATH`")
        deadline = time.monotonic() + self._timeout_s
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, VAULT_VARIABLE: vault_id.hex()},
            )
        except OSError as error:
            message = f"cannot start `{name}`: {error.strerror}"
            raise KeyProviderUnavailable(message, hint="is it installed, and on the PATH?") from None
        with process:
            try:
                key = _read_key(process, deadline)
                code = process.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                message = f"`{name}` did not end within {self._timeout_s:g} seconds"
                raise KeyProviderUnavailable(message, hint=_HINT) from None
            except _NoKey:
                message = f"`{name}` prints more than {OUTPUT_BYTES_MAX} bytes"
                raise KeyProviderRefused(message, hint=_HINT) from None
            finally:
                process.kill()
        if code in _LATER or code < 0:
            message = f"`{name}` cannot print the key now ({_told(code)})"
            raise KeyProviderUnavailable(message, hint=_HINT)
        if code or key is None:
            message = f"`{name}` failed ({_told(code)})" if code else f"`{name}` printed something else than a key"
            raise KeyProviderRefused(message, hint=_HINT)
        return key


_HINT = "run the command by itself to see what it says; it prints 32 bytes in base64, or the text of a key file"


class _NoKey(Exception):
    """A program prints without end."""


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _read_key(process: subprocess.Popen[bytes], deadline: float) -> KeyBytes | None:
    """Return the key that a program prints, or None where it is none.

    Raises:
        TimeoutExpired: It does not come to an end.
        _NoKey: It prints more than a key can be.
    """
    output = bytearray()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(cast("IO[bytes]", process.stdout), selectors.EVENT_READ)
            while selector.select(max(deadline - time.monotonic(), 0.0)):
                size = len(output)
                output += os.read(cast("IO[bytes]", process.stdout).fileno(), OUTPUT_BYTES_MAX + 1)
                if len(output) > OUTPUT_BYTES_MAX:
                    raise _NoKey
                if len(output) == size:
                    return _parse(output)
        raise subprocess.TimeoutExpired(process.args, 0)
    finally:
        # A traceback that shows locals must not show it.
        output[:] = bytes(len(output))


def _parse(output: bytearray) -> KeyBytes | None:
    # Nothing is raised from here, so that no traceback shows it.
    try:
        text = output.removesuffix(b"\n").removesuffix(b"\r").decode("ascii")
        if len(text) != _ENCODED_KEY_CHARACTERS:
            return parse_key(text)
        key = KeyBytes(b64decode(text, validate=True))
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES and b64encode(key).decode() == text else None


def from_uri(uri: KeyUri, _ask: Ask | None) -> CommandProvider:
    """Return the provider for `command:PROGRAM ARGUMENTS`, split as a POSIX shell splits words.

    Raises:
        InvalidKeyUri: There is no program, or a quotation mark is left open.
    """
    try:
        arguments = shlex.split(uri.rest)
        arguments[:1] = [os.path.expanduser(name) for name in arguments[:1]]  # noqa: PTH111 - `Path.expanduser` fails for an unknown user
        if "\x00" not in uri.rest:
            return CommandProvider(arguments)
    except ValueError:
        pass
    message = "a `command:` key names a program and its arguments"
    raise InvalidKeyUri(message, hint="for instance `command:pass show shop/vault`; a word with spaces is quoted")
