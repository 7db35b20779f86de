"""PKCS#11 modules: libraries that speak to tokens, loaded into this process."""

from __future__ import annotations

import fcntl
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pkcs11

from securecfg.errors import KeyProviderRefused, ModuleMissing, TokenMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11 import Token

    from securecfg.keys.tokens.uri import TokenUri

WAIT_S = 5.0

_LOOK_S = 0.005
_FOLDERS = tuple(
    f"/usr/{folder}{below}"
    for folder in ("lib", "lib64", "local/lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")
    for below in ("", "/pkcs11", "/softhsm", "/opencryptoki")
)


class Modules:
    """The modules that this process has loaded. Not locked: its owner calls it alone."""

    def __init__(self) -> None:
        """Load none yet."""
        self._loaded: dict[str, Any] = {}
        self._inherited: dict[str, Any] = {}
        self._borrowed: set[str] = set()

    def load(self, path: str) -> Any:  # noqa: ANN401 - the library's class is made in C
        """Return a module, ready for use.

        Raises:
            ModuleMissing: It cannot be loaded.
        """
        if path not in self._loaded:
            try:
                self._loaded[path] = self._start(path)
            except pkcs11.PKCS11Error:
                message = f"`{path}` cannot be loaded as a PKCS#11 module"
                hint = "is it made for this machine, and is it configured?"
                failure = ModuleMissing(message, hint=hint)
            else:
                return self._loaded[path]
            raise failure
        return self._loaded[path]

    def restart(self, path: str) -> None:
        """Start a module anew, which may have lost its way; not one that another part of the program uses as well."""
        if path in self._loaded and path not in self._borrowed:
            self._inherited[path] = self._loaded.pop(path)

    def inherit(self) -> None:
        """Start all modules anew when they are needed: this is a forked child."""
        self._inherited |= self._loaded
        self._loaded = {}

    def _start(self, path: str) -> Any:  # noqa: ANN401 - the library's class is made in C
        known = self._inherited.pop(path, None)
        if known is None:
            if path in pkcs11._loaded:  # noqa: SLF001 - the library has no other word for who else uses a module
                self._borrowed.add(path)
            return pkcs11.lib(path)
        with suppress(pkcs11.PKCS11Error):  # some notice that they are in a child, and say that they were not started
            known.finalize()
        known.initialize()
        return known


def module_path(uri: TokenUri) -> str:
    """Return the path of the module that a URI names.

    Raises:
        ModuleMissing: There is no such file, or others may write to it: who can, runs code in this process.
    """
    if uri.module_path is not None:
        candidates = [uri.module_path]
    else:
        names = (f"lib{uri.module_name}.so", f"{uri.module_name}.so")
        candidates = [f"{folder}/{name}" for folder in _FOLDERS for name in names]
    for path in candidates:
        try:
            mode = Path(path).stat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode) or mode & (stat.S_IWGRP | stat.S_IWOTH):
            message = f"the PKCS#11 module `{path}` is no file, or others may write to it"
            raise ModuleMissing(message, hint=f"chmod go-w {path}")
        return path
    message = f"there is no PKCS#11 module `{uri.module_path or uri.module_name}`"
    raise ModuleMissing(message, hint="install the token's library, or name it with `module-path=/...`")


@contextmanager
def alone_on_this_machine(path: str) -> Iterator[None]:
    """Wait until no other process of this library looks for a token or logs in through a module, but not for long.

    SoftHSM rewrites a token's file at each login, and who reads half of it takes the token for broken or missing.
    Workers that start together would do just that.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, and not needed where it cannot be opened
    except OSError:
        yield
        return
    with file:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_LOOK_S)
        yield


def find_token(module: Any, uri: TokenUri) -> Token:  # noqa: ANN401 - the library's class is made in C
    """Return the token that a URI names.

    Raises:
        TokenMissing: It is not there.
        KeyProviderRefused: There are several.
    """
    found: list[Token] = []
    for slot in module.get_slots(token_present=True):
        with suppress(pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            token = slot.get_token()
            if token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED and _is_named(token, uri):
                found.append(token)
    if not found:
        message = f"no token `{uri.token_name}` is there"
        raise TokenMissing(message, hint="plug it in, or look at its label: `pkcs11-tool --list-token-slots`")
    if len(found) > 1:
        message = f"the key URI fits {len(found)} tokens"
        raise KeyProviderRefused(message, hint="add `serial=` or `slot-id=`")
    return found[0]


def needs_pin(token: Token) -> bool:
    """Return whether a token does nothing with its keys before somebody has logged in."""
    return bool(token.flags & pkcs11.TokenFlag.LOGIN_REQUIRED)


def _is_named(token: Token, uri: TokenUri) -> bool:
    return (
        (uri.token is None or uri.token == token.label)
        and (uri.manufacturer is None or uri.manufacturer == token.manufacturer_id)
        and (uri.serial is None or uri.serial.encode() == token.serial)
        and (uri.model is None or uri.model == token.model)
        and (uri.slot_id is None or uri.slot_id == token.slot.slot_id)
    )
