"""Passwords of users of MySQL and MariaDB.

A user has one password. So either it is replaced in its place, which cuts off whoever still has the old one, or two
users take turns, and the one whose turn it is gets a new password while the other is used.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation.accounts import Dialect, take_accounts
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.logins import IDENTITY, USERNAME, is_unicode
from securecfg.rotation.mysql_session import PREVENTED, Refusal, open_session, quoted
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import new_password, take_rules
from securecfg.rotation.servers import take_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.rotation.accounts import Accounts
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.logins import Login
    from securecfg.rotation.mysql_session import MysqlSession
    from securecfg.rotation.passwords import Rules
    from securecfg.rotation.servers import Server

DIALECT = Dialect("mysql", ("mysql", "mariadb"), name_bytes_max=128)
_PORT = 3_306
_HOST_LENGTH_MAX = 255
# No access to `mysql.*`, access denied, a privilege is missing, on a table; the account does not exist.
_MAY_NOT = frozenset({1044, 1045, 1142, 1227, 1396, 1133})
# Of the first part of a row of `SHOW GRANTS`, which says how its user logs in.
_LOGIN_IN_GRANT = re.compile(r" IDENTIFIED (?:BY PASSWORD '[^']*'|VIA \S+(?: USING '[^']*')?)")


class MysqlRotator:
    """Replaces the password of a user, or of two users in turn.

    Args:
        server: Which server.
        accounts: Whose password.
        account_host: What stands after the `@` of the accounts.
        rules: What a password must be like.
        probe: One query that every login must be able to run.
    """

    def __init__(self, server: Server, accounts: Accounts, account_host: str, rules: Rules, probe: str) -> None:
        """Ask nothing yet."""
        self._server = server
        self._accounts = accounts
        self._account_host = account_host
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
            with self._session(self._accounts.admin, until, _not_changed) as session:
                session.set_password(candidate.username, self._account_host, candidate.password.reveal())
            return
        for own in self._accounts.known_logins(run):
            with suppress(CredentialRefused), self._session(own, until, _not_changed) as session:
                self._verify_account(session, own)
                if own.password != candidate.password:
                    session.set_own_password(candidate.password.reveal())
                return
        message = f"`{self._server}` refuses each password of the user that is known"
        raise CredentialRefused(message, hint="write the right one, or give the rotation an `admin`")

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that a login works, is this one, can run the probe, and with two users can do what the other can.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: The value is no login of this rotation.
        """
        login = self._accounts.login_of(value)
        until = time.monotonic() + run.timeout_s
        with self._session(login, until, _not_able) as session:
            self._verify_account(session, login)
            session.ask("START TRANSACTION READ ONLY")
            session.ask(self._probe)
            session.ask("ROLLBACK")
            granted = self._grants_of(session, login)
        if not self._accounts.users or run.current is None:
            return
        current = self._accounts.login_of(run.current)
        # Where what is current is refused there is nobody to compare with.
        if current.username != login.username:
            with suppress(CredentialRefused), self._session(current, until, _not_able) as session:
                if self._grants_of(session, current) != granted:
                    message = "the two users have not the same privileges"
                    raise PrivilegeMissing(message, hint="compare SHOW GRANTS of both; a role gives them the same")

    def retire(self, run: Run, /) -> None:
        """Give the user whose turn is over a password that nobody knows. Its open connections stay.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: What is to be retired is no login of this rotation.
        """
        former = self._accounts.former_login(run)
        if former is None or self._accounts.admin is None:
            return
        with self._session(self._accounts.admin, time.monotonic() + run.timeout_s, _not_retired) as session:
            session.set_password(former.username, self._account_host, new_password(self._rules))

    def check(self, run: Run, /) -> Sequence[str]:
        """Return what is missing at the server, with the commands that mend it.

        Raises:
            CredentialRefused, TargetUnavailable: The server cannot be asked.
        """
        missing: list[str] = []
        try:
            if self._accounts.admin is not None:
                missing += self._check_with(self._accounts.admin, time.monotonic() + run.timeout_s)
            if run.current is not None and not missing:
                self.verify(run.current, run)
        except (PrivilegeMissing, InvalidRotation) as error:
            missing.append(f"{error}: {error.hint}" if error.hint else str(error))
        return missing

    def _check_with(self, admin: Login, until: float) -> list[str]:
        with self._session(admin, until, _not_able) as session:
            missing = self._check_administrator(session, admin)
            for username in self._accounts.names:
                missing += self._check_account(session, username)
        return missing

    def _check_administrator(self, session: MysqlSession, admin: Login) -> list[str]:
        rows = [str(row[0]) for row in session.ask("SHOW GRANTS")]
        everywhere = [row for row in rows if " ON *.* TO " in row]
        if any(row.startswith("GRANT ALL PRIVILEGES ") or "CREATE USER" in row for row in everywhere):
            return []
        [[account]] = session.ask("SELECT CURRENT_USER()")
        host = str(account).rpartition("@")[2]
        command = f"GRANT CREATE USER ON *.* TO {quoted(admin.username)}@{quoted(host)}"
        return [f"the administrator may not change passwords: {command}"]

    def _check_account(self, session: MysqlSession, username: str) -> list[str]:
        name = f"{quoted(username)}@{quoted(self._account_host)}"
        try:
            session.ask(f"SHOW CREATE USER {name}")
        except Refusal as refusal:
            # Only who may read the accounts is told whether there is one; others find out when it is changed.
            if refusal.code in {1141, 1396, 1133, 1269}:
                return [f"there is no account {name}: CREATE USER {name}, with the privileges of the other"]
        return []

    def _verify_account(self, session: MysqlSession, login: Login) -> None:
        """Verify that the server took the login for the account whose password is changed, and no other."""
        [[account]] = session.ask("SELECT CURRENT_USER()")
        username, _, host = str(account).rpartition("@")
        if username != login.username or host.casefold() != self._account_host.casefold():
            message = f"`{self._server}` takes the login for that of another account"
            raise PrivilegeMissing(message, hint="see the option `account-host`; SELECT user, host FROM mysql.user")

    def _grants_of(self, session: MysqlSession, login: Login) -> list[str]:
        """Return what a user is granted, in words in which neither its name nor its password is."""
        names = {f"{mark}{login.username}{mark}@{mark}{self._account_host}{mark}" for mark in "`'"}
        rows = [_LOGIN_IN_GRANT.sub("", str(row[0]), count=1) for row in session.ask("SHOW GRANTS")]
        for name in names:
            rows = [row.replace(name, "<user>") for row in rows]
        return sorted(rows)

    @contextmanager
    def _session(
        self, login: Login, until: float, tell: Callable[[Server, Refusal], SecurecfgError]
    ) -> Iterator[MysqlSession]:
        try:
            with open_session(self._server, login, until) as session:
                yield session
        except Refusal as refusal:
            raise tell(self._server, refusal) from None


def from_options(options: Options) -> MysqlRotator:
    """Return the rotator `mysql`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("mysql", options)
    server = take_server(given, "mysql", _PORT)
    accounts = take_accounts(given, DIALECT)
    account_host = given.text("account-host", "%")
    probe = given.text("probe", "SELECT 1")
    rules = take_rules(given)
    given.finish()
    for text in (account_host, probe):
        if not text.strip() or "\0" in text or not is_unicode(text):
            message = "the options `account-host` and `probe` of the rotator `mysql` are text that a server takes"
            raise InvalidRotation(message)
    if len(account_host) > _HOST_LENGTH_MAX or "@" in account_host:
        message = "an `account-host` is what stands after the `@` of an account, such as `%` or `10.0.%`"
        raise InvalidRotation(message)
    return MysqlRotator(server, accounts, account_host, rules, probe)


def _not_changed(server: Server, refusal: Refusal) -> SecurecfgError:
    if refusal.code in _MAY_NOT:
        message = f"the login may not change the password of the account at `{server}`, or there is no such account"
        return PrivilegeMissing(message, hint="see the option `account-host`; GRANT CREATE USER ON *.* TO ...")
    if refusal.code == PREVENTED:
        message = f"`{server}` is a replica, or takes no changes now"
        return TargetUnavailable(message)
    message = f"`{server}` will not have this password"
    return CandidateRejected(message)


def _not_able(server: Server, refusal: Refusal) -> SecurecfgError:
    message = f"the login is taken by `{server}`, but cannot do what it is for"
    return PrivilegeMissing(message, hint=f"the server says error {refusal.code}")


def _not_retired(server: Server, refusal: Refusal) -> SecurecfgError:
    problem = _not_changed(server, refusal)
    return _not_able(server, refusal) if isinstance(problem, CandidateRejected) else problem
