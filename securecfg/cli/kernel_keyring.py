"""The Linux kernel's keyring of this user: keys in memory that nothing writes to disk, with a time-out (keyctl(2)).

A key that this program adds can be read only by a process that possesses it, and not merely by one of the same user:
its permissions name the possessor alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from securecfg.errors import Unavailable, Unsupported

_SYSCALLS = {"x86_64": (248, 250), "aarch64": (217, 219), "riscv64": (217, 219)}
_USER_KEYRING = -4
_SETPERM, _DESCRIBE, _UNLINK, _SEARCH, _READ, _SET_TIMEOUT = 5, 6, 9, 10, 11, 15
_POSSESSOR_ALL = 0x3F000000
_TEXT_BYTES = 512
PREFIX = "securecfg:"


class KernelKeyring:
    """Keeps small secrets by name for a while.

    Raises:
        Unsupported: There is no such keyring here, or it may not be used.
    """

    where = "kernel keyring"

    def __init__(self) -> None:
        """Find the system calls and see whether they work."""
        numbers = _SYSCALLS.get(platform.machine()) if platform.system() == "Linux" else None
        if numbers is None:
            raise _unsupported()
        self._add, self._control = numbers
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        try:
            self._names()
        except OSError:
            raise _unsupported() from None

    def remember(self, name: str, secret: bytes, seconds: int) -> None:
        """Keep a secret for some seconds.

        Raises:
            Unavailable: The kernel refuses, for instance because the user's quota is exhausted.
        """
        try:
            number = self._call(
                self._add, b"user", (PREFIX + name).encode(), secret, ctypes.c_size_t(len(secret)), _keyring()
            )
            self._keyctl(_SET_TIMEOUT, number, seconds)
            self._keyctl(_SETPERM, number, _POSSESSOR_ALL)
            if self.recall(name) != secret:
                # Not possessed: this session's keyring is not linked to the user's.
                self._keyctl(_UNLINK, number, _keyring())
                raise OSError(errno.EACCES, "the key cannot be read back")
        except OSError as error:
            message = f"the kernel keyring refuses: {error.strerror}"
            raise Unavailable(message) from None

    def recall(self, name: str) -> bytes | None:
        """Return a secret, or None where it is not kept any more, or may not be read."""
        try:
            number = self._keyctl(_SEARCH, _keyring(), b"user", (PREFIX + name).encode(), 0)
            return self._text(_READ, number)
        except OSError:
            return None

    def forget(self) -> int:
        """Forget everything, and return how much it was."""
        names = self._names()
        for number in names:
            self._keyctl(_UNLINK, number, _keyring())
        return len(names)

    def names(self) -> list[str]:
        """Return the names of what is kept."""
        return sorted(self._names().values())

    def _names(self) -> dict[int, str]:
        raw = self._text(_READ, _USER_KEYRING, 4096)
        found = {}
        for (number,) in struct.iter_unpack("=i", raw[: len(raw) // 4 * 4]):
            try:
                description = self._text(_DESCRIBE, number).rstrip(b"\x00").decode().split(";", 4)[-1]
            except (OSError, UnicodeDecodeError):
                continue
            if description.startswith(PREFIX):
                found[number] = description.removeprefix(PREFIX)
        return found

    def _text(self, operation: int, number: int, limit: int = _TEXT_BYTES) -> bytes:
        buffer = ctypes.create_string_buffer(limit)
        size = self._keyctl(operation, number, buffer, ctypes.c_size_t(limit))
        return buffer.raw[: min(size, limit)]

    def _keyctl(self, operation: int, *arguments: object) -> int:
        return self._call(self._control, operation, *(_long(argument) for argument in arguments))

    def _call(self, number: int, *arguments: object) -> int:
        result: int = self._libc.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result


def _keyring() -> ctypes.c_long:
    return ctypes.c_long(_USER_KEYRING)


def _long(argument: object) -> object:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def _unsupported() -> Unsupported:
    return Unsupported("this machine has no kernel keyring for programs")
