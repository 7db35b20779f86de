"""The PKCS#11 sessions of this process: one call at a time, and one session with each token.

A module is told that one thread at a time calls it (two threads with a session each make SoftHSM crash), and may not
answer for ever; `Turns` sees to both. To log in and out is a matter of the process as well: closing the session that
logged in logs all others out, so one session stays open until the process ends. A fork waits for the end of a call: a
child that is born in the middle of one would wait for ever. It then starts its modules anew.
"""

from __future__ import annotations

import hmac
import os
import time
from hashlib import sha256
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pkcs11

from securecfg.errors import KeyAccessDenied, KeyProviderUnavailable, PinIncorrect, SecurecfgError, TokenMissing
from securecfg.keys.tokens.modules import Modules, alone_on_this_machine, find_token, module_path, needs_pin
from securecfg.keys.tokens.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkcs11 import Session, Token

    from securecfg.keys.tokens.uri import TokenUri
    from securecfg.secret import Secret

T = TypeVar("T")

TIMEOUT_S = 30.0
FORK_WAIT_S = 10.0
_LEAST_S = 0.1
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
        self._turns = Turns(self._drop)
        self._registered = False
        self._modules = Modules()
        self._sessions: dict[TokenUri, _Held] = {}
        self._parents_sessions: list[object] = []
        self._mask = os.urandom(32)
        self._logins: dict[tuple[str, bytes], bytes] = {}
        self._refused: set[tuple[bytes, bytes]] = set()

    def use(self, uri: TokenUri, pin: Secret[str], work: Callable[[Session], T], timeout_s: float = TIMEOUT_S) -> T:
        """Do something in the session with a token, alone.

        Args:
            uri: Which token.
            pin: Logs in where the token asks for it; not revealed where it does not.
            work: What to do. It is done again where the session turns out to be dead, or the module to be lost.
            timeout_s: How long to wait for the module; a person who is asked for the PIN may take his time.

        Raises:
            ModuleMissing: The module is not there or cannot be loaded.
            TokenMissing: The token is not there, or went away.
            PinIncorrect: The token does not accept the PIN.
            KeyProviderRefused, KeyProviderUnavailable: The token says something else, or nothing in time.
        """
        self._register()
        place = uri.of_token()
        waiting = _Waiting(timeout_s)
        failure: SecurecfgError
        for pause_s in (*PAUSES_S, None):
            try:
                return self._attempt(place, pin, work, waiting)
            except TokenMissing as error:
                failure = error
                is_last = pause_s != PAUSES_S[0]  # a token that is missing is looked for once more, not for long
            except pkcs11.PKCS11Error as error:
                failure = _failure(error, uri)
                is_last = pause_s is None or not isinstance(error, DEAD + LOST)
            if is_last or pause_s is None:
                break
            self._begin_anew(place, waiting)
            time.sleep(SystemRandom().uniform(0, pause_s))
        raise failure  # here, so that it drags along no frame and no text of the library

    def change(self, uri: TokenUri, pin: Secret[str], work: Callable[[Session], T], timeout_s: float = TIMEOUT_S) -> T:
        """Do something in a session that may write to a token. See `use`."""

        def write(session: Session) -> T:
            # It is logged in with the other one, and logs nobody out when it is closed.
            with session.token.open(rw=True) as writing:
                return work(writing)

        return self.use(uri, pin, write, timeout_s)

    def _attempt(self, place: TokenUri, pin: Secret[str], work: Callable[[Session], T], waiting: _Waiting) -> T:
        path, held = module_path(place), self._sessions.get(place)
        if held.pin if held is not None else waiting.call(self._turns, path, lambda: self._needs_pin(place)):
            pin.reveal()  # a person may take his time, which nobody else should have to wait for
        return waiting.call(self._turns, path, lambda: work(self._session(place, pin)))

    def _needs_pin(self, place: TokenUri) -> bool:
        with alone_on_this_machine(module_path(place)):
            return needs_pin(self._find(place))

    def _begin_anew(self, place: TokenUri, waiting: _Waiting) -> None:
        path = module_path(place)
        waiting.call(self._turns, path, lambda: self._drop(path))

    def _drop(self, path: str) -> None:
        """Forget the sessions with the tokens of a module, which is started anew. It is this one's turn."""
        for place in [place for place in self._sessions if module_path(place) == path]:
            del self._sessions[place]
        for login in [login for login in self._logins if login[0] == path]:
            del self._logins[login]
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
        if not self._registered and hasattr(os, "register_at_fork"):
            # Twice does no harm, should two threads be here at once.
            self._registered = True
            os.register_at_fork(
                # A token that hangs must not keep the process from forking for ever.
                before=lambda: self._turns.hold(FORK_WAIT_S),
                after_in_parent=self._turns.release,
                after_in_child=self._after_fork_in_child,
            )

    def _after_fork_in_child(self) -> None:
        self._turns.begin_in_child()
        self._modules.inherit()
        # Kept, so that nothing is closed that is the parent's.
        self._parents_sessions.append(self._sessions)
        self._sessions, self._logins = {}, {}


class _Waiting:
    """How much longer one use of a token may wait for its module."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = self._left_s = timeout_s

    def call(self, turns: Turns, path: str, work: Callable[[], T]) -> T:
        """Make a call, and count how long it took."""
        begun = time.monotonic()
        try:
            return turns.call(path, work, max(self._left_s, _LEAST_S))
        finally:
            self._left_s -= time.monotonic() - begun


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
