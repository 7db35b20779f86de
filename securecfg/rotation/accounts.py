"""Whose password at a database a rotation replaces, and by whom: what is alike for all databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import InvalidRotation
from securecfg.rotation.logins import (
    Login,
    is_same_url,
    login_of,
    other_of,
    take_users,
    verify_username,
    with_login,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.rotation.interface import Fields, Run
    from securecfg.rotation.options import GivenOptions
    from securecfg.secret import Secret


class Dialect(NamedTuple):
    """What databases differ in.

    Attributes:
        rotator: The name of the rotator.
        schemes: What a URL may begin with.
        name_bytes_max: How long the name of a user may be.
    """

    rotator: str
    schemes: Sequence[str]
    name_bytes_max: int


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
        """Return what the user of the candidate may be able to log in with, likeliest first."""
        candidate = self.login_of(run.pending)
        known = [self.login_of(each) for each in (run.current, run.pending, run.previous) if each is not None]
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
