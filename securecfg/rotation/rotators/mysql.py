"""Passwords of users of MySQL and MariaDB.

A user has one password. So either it is replaced in its place, which cuts off whoever still has the old one, or two
users take turns, and the one whose turn it is gets a new password while the other is used.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation.accounts import DatabaseRotator, Dialect, take_accounts
from securecfg.rotation.logins import verify_options_are_text
from securecfg.rotation.mysql_session import PREVENTED, open_session, quoted
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import new_password, take_rules
from securecfg.rotation.servers import Refusal, take_server

if TYPE_CHECKING:
    from securecfg.rotation.accounts import Accounts
    from securecfg.rotation.interface import Options, Run
    from securecfg.rotation.logins import Login
    from securecfg.rotation.mysql_session import MysqlSession
    from securecfg.rotation.passwords import Rules
    from securecfg.rotation.servers import Server

DIALECT = Dialect("mysql", ("mysql", "mariadb"), name_bytes_max=128, user="user", code="error")
_PORT = 3_306
_HOST_LENGTH_MAX = 255
# No access to `mysql.*`, access denied, a privilege is missing, on a table; the account does not exist.
_MAY_NOT = frozenset({1044, 1045, 1142, 1227, 1396, 1133})
# Of the first part of a row of `SHOW GRANTS`, which says how its user logs in.
_LOGIN_IN_GRANT = re.compile(r" IDENTIFIED (?:BY PASSWORD '[^']*'|VIA \S+(?: USING '[^']*')?)")


class MysqlRotator(DatabaseRotator):
    """Replaces the password of a user, or of two users in turn.

    Args:
        server: Which server.
        accounts: Whose password.
        rules: What a password must be like.
        probe: One query that every login must be able to run.
        account_host: What stands after the `@` of the accounts.
    """

    def __init__(self, server: Server, accounts: Accounts, rules: Rules, probe: str, account_host: str) -> None:
        """Ask nothing yet."""
        super().__init__(server, accounts, rules, probe)
        self._account_host = account_host

    def _change(self, admin: Login, candidate: Login, until: float) -> None:
        with open_session(self._server, admin, until) as session:
            session.set_password(candidate.username, self._account_host, candidate.password.reveal())

    def _change_own(self, own: Login, candidate: Login, until: float) -> None:
        with open_session(self._server, own, until) as session:
            self._verify_account(session, own)
            if own.password != candidate.password:
                session.set_own_password(candidate.password.reveal())

    def _try(self, login: Login, run: Run, until: float) -> None:
        with open_session(self._server, login, until) as session:
            self._verify_account(session, login)
            session.ask("START TRANSACTION READ ONLY")
            session.run(self._probe)
            session.ask("ROLLBACK")
            granted = self._grants_of(session, login)
        if not self._accounts.users or run.current is None:
            return
        current = self._accounts.login_of(run.current)
        # Where what is current is refused there is nobody to compare with.
        if current.username != login.username:
            with suppress(CredentialRefused), open_session(self._server, current, until) as session:
                if self._grants_of(session, current) != granted:
                    message = "the two users have not the same privileges"
                    raise PrivilegeMissing(message, hint="compare SHOW GRANTS of both; a role gives them the same")

    def _end(self, admin: Login, former: Login, until: float) -> None:
        # MariaDB would let everybody in as a user without a password.
        with open_session(self._server, admin, until) as session:
            session.set_password(former.username, self._account_host, new_password(self._rules))

    def _missing(self, admin: Login, until: float) -> list[str]:
        with open_session(self._server, admin, until) as session:
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
        account = (login.username, self._account_host)
        names = ["@".join(f"{mark}{part.replace(mark, mark * 2)}{mark}" for part in account) for mark in "`'"]
        rows = [_LOGIN_IN_GRANT.sub("", str(row[0]), count=1) for row in session.ask("SHOW GRANTS")]
        for name in names:
            rows = [row.replace(name, "<user>") for row in rows]
        return sorted(rows)

    def _not_changed(self, refusal: Refusal) -> SecurecfgError:
        if refusal.code in _MAY_NOT:
            server = self._server
            message = f"the login may not change the password of the account at `{server}`, or there is no such account"
            return PrivilegeMissing(message, hint="see the option `account-host`; GRANT CREATE USER ON *.* TO ...")
        if refusal.code == PREVENTED:
            message = f"`{self._server}` is a replica, or takes no changes now"
            return TargetUnavailable(message)
        message = f"`{self._server}` will not have this password"
        return CandidateRejected(message)


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
    verify_options_are_text("mysql", {"account-host": account_host, "probe": probe})
    if len(account_host) > _HOST_LENGTH_MAX or "@" in account_host:
        message = "an `account-host` is what stands after the `@` of an account, such as `%` or `10.0.%`"
        raise InvalidRotation(message)
    return MysqlRotator(server, accounts, rules, probe, account_host)
