"""Whose password at a database a rotation replaces, and by whom: what is alike for all databases."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import CandidateRejected, CredentialRefused, InvalidRotation, PrivilegeMissing, SecurecfgError
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.logins import (
    IDENTITY,
    USERNAME,
    Login,
    is_same_url,
    login_of,
    other_of,
    take_users,
    verify_username,
    with_login,
)
from securecfg.rotation.passwords import new_password
from securecfg.rotation.servers import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.rotation.interface import Fields, Run
    from securecfg.rotation.options import GivenOptions
    from securecfg.rotation.passwords import Rules
    from securecfg.rotation.servers import Server
    from securecfg.secret import Secret


class Dialect(NamedTuple):
    """What databases differ in.

    Attributes:
        rotator: The name of the rotator.
        schemes: What a URL may begin with.
        name_bytes_max: How long the name of a user may be.
        user: What it calls a user.
        code: What it calls the code of an error.
    """

    rotator: str
    schemes: Sequence[str]
    name_bytes_max: int
    user: str
    code: str


class Accounts(NamedTuple):
    """Whose password is changed, and by whom.

    Attributes:
        dialect: Of the database.
        username: The only user whose password is changed; empty where it is whichever changes its own.
        users: Two users that take turns, or none.
        admin: Who changes it; None where each user changes its own.
    """

    dialect: Dialect
    username: str
    users: tuple[str, ...]
    admin: Login | None

    @property
    def names(self) -> tuple[str, ...]:
        """The users that the options name."""
        return self.users or ((self.username,) if self.username else ())

    def propose(self, run: Run, password: str) -> Secret[str] | Fields:
        """Return the next value: for the same user, or for the one whose turn it is.

        Raises:
            InvalidRotation: The current value is no login of this rotation.
        """
        if run.current is None and self.names:
            username = self.names[0]
        else:
            username = self.login_of(run.current).username
            if self.users:
                username = other_of((self.users[0], self.users[1]), username)
        return with_login(run.current, username, password, self.dialect.schemes)

    def login_of(self, value: Fields | None) -> Login:
        """Return the login that a value holds.

        Raises:
            InvalidRotation: It holds none, or that of somebody else than the options name.
        """
        login = login_of(value, self.dialect.schemes)
        verify_username(login.username, self.dialect.name_bytes_max)
        if self.names and login.username not in self.names:
            message = "the secret is for another user than the rotation names"
            raise InvalidRotation(message, hint="see the options `username` and `users`")
        return login

    def verify_turn(self, candidate: Login, run: Run) -> None:
        """Verify that a candidate takes nobody's password but its own.

        Raises:
            InvalidRotation: It is for another server, database or user, or for the one of two that is in use.
        """
        if not is_same_url(run.current, run.pending, self.dialect.schemes):
            message = "the candidate is for another server or database than the current value"
            raise InvalidRotation(message)
        if run.current is None:
            return
        current = self.login_of(run.current)
        is_other = current.username != candidate.username
        if is_other != bool(self.users) and (is_other or current.password != candidate.password):
            message = "the candidate is for another user than the current value"
            if self.users:
                message = "the candidate is for the user that is in use"
            raise InvalidRotation(message, hint="cancel the rotation, and begin it again")

    def known_logins(self, run: Run) -> list[Login]:
        """Return what the user of the candidate may be able to log in with, likeliest first.

        Raises:
            InvalidRotation: The candidate is no login of this rotation.
        """
        candidate = self.login_of(run.pending)
        known: list[Login] = []
        for value in (run.current, run.pending, run.previous):
            with suppress(InvalidRotation):  # what somebody has written by mistake is in nobody's way
                known += [self.login_of(value)] if value is not None else []
        return [login for login in known if login.username == candidate.username]

    def former_login(self, run: Run) -> Login | None:
        """Return whose password is to be taken away; None where that is not so, as it has another already.

        Raises:
            InvalidRotation: What is to be retired is no login of this rotation.
        """
        if not self.users or run.previous is None:
            return None
        former = self.login_of(run.previous)
        # A user has one password, which is what is current.
        is_in_use = run.current is not None and self.login_of(run.current).username == former.username
        return None if is_in_use else former


class DatabaseRotator(ABC):
    """Replaces the password of a user of a database, or of two users in turn.

    Args:
        server: Which server.
        accounts: Whose password.
        rules: What a password must be like.
        probe: One query that every login must be able to run.
    """

    def __init__(self, server: Server, accounts: Accounts, rules: Rules, probe: str) -> None:
        """Ask nothing yet."""
        self._server = server
        self._accounts = accounts
        self._rules = rules
        self._probe = probe
        self.strategy = Strategy.TWO_USERS if accounts.users else Strategy.SINGLE_SLOT
        self.target = str(server)
        self.identity = IDENTITY - {USERNAME} if accounts.users else IDENTITY

    def propose(self, run: Run, /) -> Candidate:
        """Return a new password, with two users that of the other one; asks nothing.

        Raises:
            InvalidRotation: The current value is no login of this rotation.
        """
        return Candidate(self._accounts.propose(run, new_password(self._rules)))

    def apply(self, run: Run, /) -> None:
        """Give the user of the candidate its password.

        Raises:
            CandidateRejected, CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: The candidate is no login of this rotation, or would replace what is in use.
        """
        until = time.monotonic() + run.timeout_s
        candidate = self._accounts.login_of(run.pending)
        self._accounts.verify_turn(candidate, run)
        if not candidate.is_usable:
            message = "the candidate is no password that a server can be told"
            raise CandidateRejected(message)
        if self._accounts.admin is not None:
            with _telling(self._not_changed):
                self._change(self._accounts.admin, candidate, until)
            return
        for own in self._accounts.known_logins(run):
            with suppress(CredentialRefused), _telling(self._not_changed):
                self._change_own(own, candidate, until)
                return
        message = f"`{self._server}` refuses each password of the {self._accounts.dialect.user} that is known"
        raise CredentialRefused(message, hint="write the right one, or give the rotation an `admin`")

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that a login works, is this one, can run the probe, and with two users can do what the other can.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: The value is no login of this rotation.
        """
        self._verify(value, run, time.monotonic() + run.timeout_s)

    def retire(self, run: Run, /) -> None:
        """Let nobody log in any more with the password of the user whose turn is over. Open connections stay.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: What is to be retired is no login of this rotation.
        """
        former = self._accounts.former_login(run)
        if former is None or self._accounts.admin is None:
            return
        with _telling(self._not_retired):
            self._end(self._accounts.admin, former, time.monotonic() + run.timeout_s)

    def check(self, run: Run, /) -> Sequence[str]:
        """Return what is missing at the server, with the commands that mend it.

        Raises:
            CredentialRefused, TargetUnavailable: The server cannot be asked.
        """
        until = time.monotonic() + run.timeout_s
        missing: list[str] = []
        try:
            if self._accounts.admin is not None:
                with _telling(self._not_able):
                    missing += self._missing(self._accounts.admin, until)
            if run.current is not None and not missing:
                self._verify(run.current, run, until)
        except (PrivilegeMissing, InvalidRotation) as error:
            missing.append(f"{error}: {error.hint}" if error.hint else str(error))
        return missing

    def _verify(self, value: Fields, run: Run, until: float) -> None:
        login = self._accounts.login_of(value)
        with _telling(self._not_able):
            self._try(login, run, until)

    def _not_able(self, refusal: Refusal) -> SecurecfgError:
        message = f"the login is taken by `{self._server}`, but cannot do what it is for"
        return PrivilegeMissing(message, hint=f"the server says {self._accounts.dialect.code} {refusal.code}")

    def _not_retired(self, refusal: Refusal) -> SecurecfgError:
        problem = self._not_changed(refusal)
        return self._not_able(refusal) if isinstance(problem, CandidateRejected) else problem

    @abstractmethod
    def _change(self, admin: Login, candidate: Login, until: float) -> None:
        """Have an administrator give the user of a candidate its password."""

    @abstractmethod
    def _change_own(self, own: Login, candidate: Login, until: float) -> None:
        """Have a user give itself the password of a candidate, unless it has logged in with it."""

    @abstractmethod
    def _try(self, login: Login, run: Run, until: float) -> None:
        """Log in, and do what `verify` says."""

    @abstractmethod
    def _end(self, admin: Login, former: Login, until: float) -> None:
        """Have an administrator take its password from a user."""

    @abstractmethod
    def _missing(self, admin: Login, until: float) -> list[str]:
        """Return what an administrator finds missing, with the commands that mend it."""

    @abstractmethod
    def _not_changed(self, refusal: Refusal) -> SecurecfgError:
        """Return what it means that a password is not changed."""


def take_accounts(given: GivenOptions, dialect: Dialect) -> Accounts:
    """Return what the options `username`, `users`, `admin` and `admin-password` say.

    Raises:
        InvalidRotation: They do not fit together.
    """
    username, users = given.text("username", ""), take_users(given, dialect.name_bytes_max)
    admin, password = given.text("admin", ""), given.secret("admin-password")
    for name in filter(None, (username, admin)):
        verify_username(name, dialect.name_bytes_max)
    problem = ""
    if bool(admin) != (password is not None):
        problem = "an `admin` has an `admin-password`"
    elif username and users:
        problem = "there are `users` or a `username`"
    elif users and not admin:
        problem = "two `users` need an `admin`, as neither may change the password of the other"
    elif admin and not (username or users):
        # Else whoever writes the secret could have the administrator change any password, and read it.
        problem = "with an `admin` the user is named, by `username` or `users`"
    elif admin and admin in {username, *users}:
        problem = "the `admin` is another user than those whose passwords are changed"
    if problem:
        message = f"of the rotator `{dialect.rotator}`: {problem}"
        raise InvalidRotation(message)
    return Accounts(dialect, username, users, Login(admin, password) if password is not None else None)


@contextmanager
def _telling(tell: Callable[[Refusal], SecurecfgError]) -> Iterator[None]:
    """Raise what it means where a server refuses something in the block.

    Raises:
        SecurecfgError: The server refuses something.
    """
    try:
        yield
    except Refusal as refusal:
        raise tell(refusal) from None
