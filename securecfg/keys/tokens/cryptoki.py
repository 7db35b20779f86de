"""The PKCS#11 sessions of this process: one lock for all modules, and one session with each token.

A module is told that one thread at a time calls it, so all calls are made under one lock (two threads with a session
each make SoftHSM crash). To log in and out is a matter of the process as well: closing the session that logged in logs
all others out, so one session stays open until the process ends. Before a fork the lock is taken: a child that is born
in the middle of a call would wait for ever. It then starts its modules anew.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from hashlib import sha256
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pkcs11

from securecfg.errors import KeyAccessDenied, KeyProviderUnavailable, PinIncorrect, SecurecfgError, TokenMissing
from securecfg.keys.tokens.modules import Modules, alone_on_this_machine, find_token, module_path, needs_pin

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkcs11 import Session, Token

    from securecfg.keys.tokens.uri import TokenUri
    from securecfg.secret import Secret

T = TypeVar("T")

FORK_WAIT_S = 10.0
PAUSES_S = (0.02, 0.1, 0.3, 0.6)

DEAD = (
    pkcs11.DeviceRemoved,
    pkcs11.OperationActive,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.UserNotLoggedIn,
)
"""What says that a session has ended, or is stuck in something that failed."""

LOST = (
    pkcs11.DeviceError,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.TokenNotRecognised,
    pkcs11.UserPinNotInitialized,
)
"""What says that a module has lost its way, as SoftHSM does when another program logs in at the same moment."""


class _Held(NamedTuple):
    """A session, and a keyed hash of the PIN that it was opened with; empty where none is needed."""

    session: Session
    pin: bytes


class Cryptoki:
    """The modules and sessions of this process; one object, since a module keeps its state in the process."""

    def __init__(self) -> None:
        """Load nothing, and register nothing yet: that is left to the first use."""
        self._lock = threading.RLock()
        self._registered = False
        self._holds_for_fork = False
        self._modules = Modules()
        self._sessions: dict[TokenUri, _Held] = {}
        self._parents_sessions: list[object] = []
        self._mask = os.urandom(32)
        self._logins: dict[tuple[str, bytes], bytes] = {}
        self._refused: set[tuple[bytes, bytes]] = set()

    def use(self, uri: TokenUri, pin: Secret[str], work: Callable[[Session], T]) -> T:
        """Do something in the session with a token, alone.

        Args:
            uri: Which token.
            pin: Logs in where the token asks for it; not revealed where it does not.
            work: What to do. It is done again where the session turns out to be dead, or the module to be lost.

        Raises:
            ModuleMissing: The module is not there or cannot be loaded.
            TokenMissing: The token is not there, or went away.
            PinIncorrect: The token does not accept the PIN.
            KeyProviderRefused, KeyProviderUnavailable: The token says something else.
        """
        self._register()
        place = uri.of_token()
        failure: SecurecfgError
        for pause_s in (*PAUSES_S, None):
            try:
                return self._attempt(place, pin, work)
            except TokenMissing as error:
                failure = error
                is_last = pause_s != PAUSES_S[0]  # a token that is missing is looked for once more, not for long
            except pkcs11.PKCS11Error as error:
                failure = _failure(error, uri)
                is_last = pause_s is None or not isinstance(error, DEAD + LOST)
            if is_last or pause_s is None:
                break
            self._begin_anew(place)
            time.sleep(SystemRandom().uniform(0, pause_s))
        raise failure  # here, so that it drags along no frame and no text of the library

    def change(self, uri: TokenUri, pin: Secret[str], work: Callable[[Session], T]) -> T:
        """Do something in a session that may write to a token. See `use`."""

        def write(session: Session) -> T:
            # It is logged in with the other one, and logs nobody out when it is closed.
            with session.token.open(rw=True) as writing:
                return work(writing)

        return self.use(uri, pin, write)

    def _attempt(self, place: TokenUri, pin: Secret[str], work: Callable[[Session], T]) -> T:
        with self._lock:
            held = self._sessions.get(place)
            if held is None:
                with alone_on_this_machine(module_path(place)):
                    is_pin_needed = needs_pin(self._find(place))
            else:
                is_pin_needed = bool(held.pin)
        if is_pin_needed:
            pin.reveal()  # a person may take his time, which nobody else should have to wait for
        with self._lock:
            return work(self._session(place, pin))

    def _begin_anew(self, place: TokenUri) -> None:
        with self._lock:
            path = module_path(place)
            self._sessions = {other: held for other, held in self._sessions.items() if module_path(other) != path}
            self._logins = {login: pin for login, pin in self._logins.items() if login[0] != path}
            self._modules.restart(path)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def _find(self, place: TokenUri) -> Token:
        return find_token(self._modules.load(module_path(place)), place)

    def _session(self, place: TokenUri, pin: Secret[str]) -> Session:
        held = self._sessions.get(place)
        if held is None:
            with alone_on_this_machine(module_path(place)):
                held = self._sessions[place] = self._open(place, pin)
        elif held.pin and not hmac.compare_digest(held.pin, self._digest(pin)):
            # The token would not be asked, since the process is logged in.
            raise _pin_incorrect(place)
        return held.session

    def _open(self, place: TokenUri, pin: Secret[str]) -> _Held:
        token = self._find(place)
        if not needs_pin(token):
            return _Held(token.open(), b"")
        given, login = self._digest(pin), (module_path(place), token.serial)
        known = self._logins.get(login)
        if (token.serial, given) in self._refused or (known and not hmac.compare_digest(known, given)):
            # Each wrong PIN counts towards locking the token: none is sent twice, however many slots and threads ask.
            raise _pin_incorrect(place)
        if not known:
            session = self._log_in(token, pin)
            if session is None:
                self._refused.add((token.serial, given))
                raise _pin_incorrect(place)
        else:
            session = token.open()
        self._logins[login] = given
        return _Held(session, given)

    @staticmethod
    def _log_in(token: Token, pin: Secret[str]) -> Session | None:
        try:
            return token.open(user_pin=pin.reveal())
        except pkcs11.UserAlreadyLoggedIn:
            return token.open()  # by another part of this program
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
            return None

    def _digest(self, pin: Secret[str]) -> bytes:
        return hmac.digest(self._mask, pin.reveal().encode(), sha256)

    # --- forks --------------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        with self._lock:
            if not self._registered and hasattr(os, "register_at_fork"):
                os.register_at_fork(
                    before=self._before_fork,
                    after_in_parent=self._after_fork_in_parent,
                    after_in_child=self._after_fork_in_child,
                )
                self._registered = True

    def _before_fork(self) -> None:
        # A token that hangs must not keep the process from forking for ever.
        self._holds_for_fork = self._lock.acquire(timeout=FORK_WAIT_S)

    def _after_fork_in_parent(self) -> None:
        if self._holds_for_fork:
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._modules.inherit()
        # Kept, so that nothing is closed that is the parent's.
        self._parents_sessions.append(self._sessions)
        self._sessions, self._logins = {}, {}


CRYPTOKI = Cryptoki()


def in_words(error: pkcs11.PKCS11Error) -> str:
    """Return what the standard calls an error, such as `device memory`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(error).__name__).strip()


def _pin_incorrect(uri: TokenUri) -> PinIncorrect:
    message = f"the token `{uri.token_name}` does not accept the PIN"
    return PinIncorrect(message, hint="too many wrong ones lock it; this process sends none twice")


def _failure(error: pkcs11.PKCS11Error, uri: TokenUri) -> SecurecfgError:
    """Return our error for one of the library."""
    token = uri.token_name
    if isinstance(error, pkcs11.PinLocked | pkcs11.PinExpired | pkcs11.UserPinNotInitialized):
        message = f"the token `{token}` accepts no PIN: it is locked, expired or was never set"
        return PinIncorrect(message, hint="the token's security officer can set a new one")
    if isinstance(error, DEAD):
        message = f"the token `{token}` went away"
        return TokenMissing(message, hint="plug it in, and try again")
    if isinstance(error, pkcs11.FunctionRejected | pkcs11.TokenWriteProtected | pkcs11.SessionReadOnly):
        message = f"the token `{token}` does not let this be done"
        return KeyAccessDenied(message, hint="look at how the token and the key are set up")
    message = f"the token `{token}` reports an error: {in_words(error)}"
    return KeyProviderUnavailable(message, hint="look at the logs of its module")
