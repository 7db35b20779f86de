"""Passwords of PostgreSQL roles.

A role has one password. So either it is replaced in its place, which cuts off whoever still has the old one, or two
roles take turns, and the one whose turn it is gets a new password while the other is used.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import CandidateRejected, PrivilegeMissing, SecurecfgError, TargetUnavailable
from securecfg.rotation.accounts import DatabaseRotator, Dialect, take_accounts
from securecfg.rotation.logins import verify_options_are_text
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import take_rules
from securecfg.rotation.postgresql_session import open_session
from securecfg.rotation.servers import take_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation.accounts import Accounts
    from securecfg.rotation.interface import Options, Run
    from securecfg.rotation.logins import Login
    from securecfg.rotation.passwords import Rules
    from securecfg.rotation.postgresql_session import PostgresqlSession
    from securecfg.rotation.servers import Refusal, Server

# PostgreSQL cuts off the rest of a longer name, and takes it for that of another role.
DIALECT = Dialect("postgresql", ("postgresql", "postgres"), name_bytes_max=63, user="role", code="SQLSTATE")

_PORT = 5_432
_READ_ONLY = "25006"
_NO_SUCH_ROLE = "42704"
_MAY_NOT = "42501"
_ADMIN_OPTION_SINCE = 160_000
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)

# What there is to a role besides its password; each row in the order of `_KINDS`, after the name.
_ROLES = """
SELECT r.rolname,
  pg_catalog.concat_ws(',', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
    r.rolbypassrls, r.rolconnlimit),
  ARRAY(SELECT pg_catalog.concat_ws(',', m.roleid, m.admin_option) FROM pg_catalog.pg_auth_members m
    WHERE m.member = r.oid ORDER BY 1),
  ARRAY(SELECT pg_catalog.concat_ws(',', s.setdatabase, s.setconfig) FROM pg_catalog.pg_db_role_setting s
    WHERE s.setrole = r.oid ORDER BY 1),
  ARRAY(SELECT pg_catalog.concat_ws(',', d.dbid, d.classid, d.objid, d.objsubid, d.deptype)
    FROM pg_catalog.pg_shdepend d
    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid AND d.deptype IN ('o', 'a')
    ORDER BY 1)
FROM pg_catalog.pg_roles r WHERE r.rolname IN ($1, $2) ORDER BY r.rolname
"""
_KINDS = ("attributes", "memberships", "settings", "objects that they own or are granted by name")
_STATE = """
SELECT r.rolcanlogin, COALESCE(r.rolvaliduntil <= pg_catalog.now(), false),
  a.rolsuper OR (a.rolcreaterole AND NOT r.rolsuper AND CASE WHEN $2 = 'yes'
    THEN pg_catalog.pg_has_role(a.oid, r.oid, 'MEMBER WITH ADMIN OPTION') ELSE NOT r.rolreplication END)
FROM pg_catalog.pg_roles r, pg_catalog.pg_roles a WHERE r.rolname = $1 AND a.rolname = current_user
"""
_GROUPS = """
SELECT pg_catalog.quote_ident(g.rolname) FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles r ON r.oid = m.member
WHERE r.rolname = $1 ORDER BY 1
"""


class _State(NamedTuple):
    """What an administrator sees of a role.

    Attributes:
        can_login: Whether it may log in.
        is_over: Whether it has ended.
        may_be_changed: Whether the administrator may change its password.
    """

    can_login: bool
    is_over: bool
    may_be_changed: bool


class PostgresqlRotator(DatabaseRotator):
    """Replaces the password of a role, or of two roles in turn.

    Args:
        server: Which server.
        accounts: Whose password.
        rules: What a password must be like.
        probe: One query that every login must be able to run.
        database: Into which database who changes it logs in, and others where their value names none.
    """

    def __init__(self, server: Server, accounts: Accounts, rules: Rules, probe: str, database: str) -> None:
        """Ask nothing yet."""
        super().__init__(server, accounts, rules, probe)
        self._database = database

    def _change(self, admin: Login, candidate: Login, until: float) -> None:
        with self._administering(admin, until) as session:
            _verify_role(session, candidate.username)
            session.set_password(candidate.username, candidate.password.reveal())

    def _change_own(self, own: Login, candidate: Login, until: float) -> None:
        with self._administering(own, until) as session:
            if own.password != candidate.password:
                session.set_password(candidate.username, candidate.password.reveal())

    def _try(self, login: Login, run: Run, until: float) -> None:
        del run  # who compares the two roles sees both of them
        database = login.database or self._database
        with open_session(self._server, login, database, until) as session:
            if session.ask("SELECT session_user, pg_catalog.current_database()") != [(login.username, database)]:
                message = f"`{self._server}` takes the login for that of another role, or another database"
                raise PrivilegeMissing(message)
            session.ask("BEGIN READ ONLY")
            session.run(self._probe)
            session.ask("ROLLBACK")
            if self._accounts.users and (differing := self._compare(session)):
                message = f"the two users differ in {' and '.join(differing)}"
                raise PrivilegeMissing(message, hint="let both have what they may do from one group, by GRANT group TO")

    def _end(self, admin: Login, former: Login, until: float) -> None:
        with self._administering(admin, until) as session:
            session.set_password(former.username, None)

    def _missing(self, admin: Login, until: float) -> list[str]:
        missing: list[str] = []
        with self._administering(admin, until) as session:
            for username in self._accounts.names:
                missing += self._check_role(session, username)
            if self._accounts.users and not missing:
                missing += [
                    f"the two users differ in {kind}; GRANT both the same groups, and nothing by name"
                    for kind in self._compare(session)
                ]
        return missing

    def _check_role(self, session: PostgresqlSession, username: str) -> list[str]:
        role = _quoted(username)
        found = _state_of(session, username)
        if found is None:
            groups = [str(group) for user in self._accounts.users for (group,) in session.ask(_GROUPS, user)]
            also = f" IN ROLE {', '.join(groups)}" if groups else ""
            return [f"there is no role `{username}`: CREATE ROLE {role} LOGIN{also}"]
        missing = []
        if not found.can_login:
            missing.append(f"the role `{username}` may not log in: ALTER ROLE {role} LOGIN")
        if found.is_over:
            missing.append(f"the role `{username}` has ended: ALTER ROLE {role} VALID UNTIL 'infinity'")
        if not found.may_be_changed:
            commands = "ALTER ROLE {admin} CREATEROLE"
            if session.version >= _ADMIN_OPTION_SINCE:
                commands += f"; GRANT {role} TO {{admin}} WITH ADMIN OPTION"
            admin = _quoted(self._accounts.admin.username) if self._accounts.admin else ""
            missing.append(
                f"the administrator may not change the password of `{username}`: {commands.format(admin=admin)}"
            )
        return missing

    def _compare(self, session: PostgresqlSession) -> list[str]:
        rows = session.ask(_ROLES, *self._accounts.users)
        if len(rows) != len(self._accounts.users):
            return ["that one does not exist"]
        return [kind for kind, one, other in zip(_KINDS, rows[0][1:], rows[1][1:], strict=True) if one != other]

    @contextmanager
    def _administering(self, login: Login, until: float) -> Iterator[PostgresqlSession]:
        """Give a session in which roles are changed."""
        with open_session(self._server, login, self._database, until) as session:
            session.prepare_administration()
            yield session

    def _not_changed(self, refusal: Refusal) -> SecurecfgError:
        if refusal.code in {_MAY_NOT, _NO_SUCH_ROLE}:
            message = f"the login may not change the password of the role at `{self._server}`, or there is no such role"
            return PrivilegeMissing(message)
        if refusal.code == _READ_ONLY:
            message = f"`{self._server}` is a replica, where no password is changed"
            return TargetUnavailable(message)
        message = f"`{self._server}` will not have this password"
        return CandidateRejected(message)


def from_options(options: Options) -> PostgresqlRotator:
    """Return the rotator `postgresql`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("postgresql", options)
    server = take_server(given, "postgresql", _PORT)
    accounts = take_accounts(given, DIALECT)
    database = given.text("dbname", "postgres")
    probe = given.text("probe", "SELECT 1")
    rules = take_rules(given)
    given.finish()
    verify_options_are_text("postgresql", {"dbname": database, "probe": probe})
    return PostgresqlRotator(server, accounts, rules, probe, database)


def _verify_role(session: PostgresqlSession, username: str) -> None:
    """Verify, before the old password is gone, that the role can log in with a new one."""
    found = _state_of(session, username)
    if found is None or not found.can_login or found.is_over:
        message = "the role of the candidate does not exist, may not log in, or has ended by its VALID UNTIL"
        raise PrivilegeMissing(message)


def _state_of(session: PostgresqlSession, username: str) -> _State | None:
    has_admin_option = "yes" if session.version >= _ADMIN_OPTION_SINCE else "no"
    rows = session.ask(_STATE, username, has_admin_option)
    return _State(*(value == "t" for value in rows[0])) if rows else None


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'
