"""Passwords of PostgreSQL roles.

A role has one password. So either it is replaced in its place, which cuts off whoever still has the old one, or two
roles take turns, and the one whose turn it is gets a new password while the other is used.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation.addresses import is_local, verify_host
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.logins import (
    IDENTITY,
    USERNAME,
    Login,
    is_same_url,
    is_unicode,
    login_of,
    other_of,
    take_users,
    verify_username,
    with_login,
)
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import new_password, take_rules
from securecfg.rotation.postgresql_session import Refusal, Server, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.passwords import Rules
    from securecfg.rotation.postgresql_session import PostgresqlSession

SCHEMES = ("postgresql", "postgres")
NAME_BYTES_MAX = 63
"""PostgreSQL cuts off the rest of a longer name, and takes it for that of another role."""

_PORT = 5_432
_PORT_MAX = 65_535
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


class Logins(NamedTuple):
    """Whose password is changed, and by whom.

    Attributes:
        username: The only role whose password is changed; empty where it is whichever changes its own.
        users: Two roles that take turns, or none.
        admin: Who changes it; None where each role changes its own.
    """

    username: str
    users: tuple[str, ...]
    admin: Login | None


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


class PostgresqlRotator:
    """Replaces the password of a role, or of two roles in turn.

    Args:
        server: Which server.
        logins: Whose password.
        database: Into which database who changes it logs in, and others where their value names none.
        rules: What a password must be like.
        probe: One query that every login must be able to run.
    """

    def __init__(self, server: Server, logins: Logins, database: str, rules: Rules, probe: str) -> None:
        """Ask nothing yet."""
        self._server = server
        self._logins = logins
        self._database = database
        self._rules = rules
        self._probe = probe
        self.strategy = Strategy.TWO_USERS if logins.users else Strategy.SINGLE_SLOT
        self.target = str(server)
        self.identity = IDENTITY - {USERNAME} if logins.users else IDENTITY

    def propose(self, run: Run, /) -> Candidate:
        """Return a new password, with two users that of the other one; asks nothing.

        Raises:
            InvalidRotation: The current value is no login of this rotation.
        """
        users = self._logins.users
        if run.current is None and (users or self._logins.username):
            username = users[0] if users else self._logins.username
        else:
            username = self._login_of(run.current).username
            if users:
                username = other_of((users[0], users[1]), username)
        return Candidate(with_login(run.current, username, new_password(self._rules), SCHEMES))

    def apply(self, run: Run, /) -> None:
        """Give the role of the candidate its password.

        Raises:
            CandidateRejected, CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: The candidate is no login of this rotation, or would replace what is in use.
        """
        until = time.monotonic() + run.timeout_s
        candidate = self._login_of(run.pending)
        self._verify_turn(candidate, run)
        if not candidate.is_usable:
            message = "the candidate is no password that a server can be told"
            raise CandidateRejected(message)
        if self._logins.admin is not None:
            with self._administering(self._logins.admin, until) as session:
                _verify_role(session, candidate.username)
                session.set_password(candidate.username, candidate.password.reveal())
            return
        for value in (run.current, run.pending, run.previous):
            if value is None:
                continue
            own = self._login_of(value)
            if own.username != candidate.username:
                continue
            try:
                with self._administering(own, until) as session:
                    if value is not run.pending:
                        session.set_password(candidate.username, candidate.password.reveal())
                return
            except CredentialRefused:
                continue
        message = f"`{self._server}` refuses each password of the role that is known"
        raise CredentialRefused(message, hint="write the right one, or give the rotation an `admin`")

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that a login works, is this one, can run the probe, and with two users can do what the other can.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: The value is no login of this rotation.
        """
        login = self._login_of(value)
        database = login.database or self._database
        with self._session(login, database, time.monotonic() + run.timeout_s, _not_able) as session:
            if session.ask("SELECT session_user, pg_catalog.current_database()") != [(login.username, database)]:
                message = f"`{self._server}` takes the login for that of another role, or another database"
                raise PrivilegeMissing(message)
            session.ask("BEGIN READ ONLY")
            session.ask(self._probe)
            session.ask("ROLLBACK")
            if self._logins.users and (differing := self._compare(session)):
                message = f"the two users differ in {' and '.join(differing)}"
                raise PrivilegeMissing(message, hint="let both have what they may do from one group, by GRANT group TO")

    def retire(self, run: Run, /) -> None:
        """Take its password from the role whose turn is over. Its open connections stay.

        Raises:
            CredentialRefused, PrivilegeMissing, TargetUnavailable: As the contract says.
            InvalidRotation: What is to be retired is no login of this rotation.
        """
        if not self._logins.users or self._logins.admin is None or run.previous is None:
            return
        previous = self._login_of(run.previous)
        if run.current is not None and self._login_of(run.current).username == previous.username:
            return  # a role has one password, which is what is current
        with self._administering(self._logins.admin, time.monotonic() + run.timeout_s, _not_retired) as session:
            session.set_password(previous.username, None)

    def check(self, run: Run, /) -> Sequence[str]:
        """Return what is missing at the server, with the commands that mend it.

        Raises:
            CredentialRefused, TargetUnavailable: The server cannot be asked.
        """
        missing: list[str] = []
        if self._logins.admin is not None:
            until = time.monotonic() + run.timeout_s
            with self._administering(self._logins.admin, until, _not_able) as session:
                for username in self._logins.users or (self._logins.username,):
                    missing += self._check_role(session, username)
                if self._logins.users and not missing:
                    missing += [
                        f"the two users differ in {kind}; GRANT both the same groups, and nothing by name"
                        for kind in self._compare(session)
                    ]
        if run.current is not None and not missing:
            try:
                self.verify(run.current, run)
            except (PrivilegeMissing, InvalidRotation) as error:
                missing.append(f"{error}: {error.hint}" if error.hint else str(error))
        return missing

    def _check_role(self, session: PostgresqlSession, username: str) -> list[str]:
        role = _quoted(username)
        found = _state_of(session, username)
        if found is None:
            groups = [str(group) for user in self._logins.users for (group,) in session.ask(_GROUPS, user)]
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
            admin = _quoted(self._logins.admin.username) if self._logins.admin else ""
            missing.append(
                f"the administrator may not change the password of `{username}`: {commands.format(admin=admin)}"
            )
        return missing

    def _compare(self, session: PostgresqlSession) -> list[str]:
        rows = session.ask(_ROLES, *self._logins.users)
        if len(rows) != len(self._logins.users):
            return ["that one does not exist"]
        return [kind for kind, one, other in zip(_KINDS, rows[0][1:], rows[1][1:], strict=True) if one != other]

    def _login_of(self, value: Fields | None) -> Login:
        login = login_of(value, SCHEMES)
        verify_username(login.username, NAME_BYTES_MAX)
        allowed = self._logins.users or ((self._logins.username,) if self._logins.username else (login.username,))
        if login.username not in allowed:
            message = "the secret is for another role than the rotation names"
            raise InvalidRotation(message, hint="see the options `username` and `users`")
        return login

    def _verify_turn(self, candidate: Login, run: Run) -> None:
        if not is_same_url(run.current, run.pending, SCHEMES):
            message = "the candidate is for another server or database than the current value"
            raise InvalidRotation(message)
        if run.current is None:
            return
        current = self._login_of(run.current)
        is_other = current.username != candidate.username
        if is_other != bool(self._logins.users) and (is_other or current.password != candidate.password):
            message = (
                "the candidate is for the user that is in use"
                if self._logins.users
                else "the candidate is for another role than the current value"
            )
            raise InvalidRotation(message, hint="cancel the rotation, and begin it again")

    @contextmanager
    def _administering(
        self, login: Login, until: float, tell: Callable[[Server, Refusal], SecurecfgError] | None = None
    ) -> Iterator[PostgresqlSession]:
        """Give a session in which roles are changed."""
        with self._session(login, self._database, until, tell or _not_changed) as session:
            session.prepare_administration()
            yield session

    @contextmanager
    def _session(
        self, login: Login, database: str, until: float, tell: Callable[[Server, Refusal], SecurecfgError]
    ) -> Iterator[PostgresqlSession]:
        try:
            with open_session(self._server, login, database, until) as session:
                yield session
        except Refusal as refusal:
            raise tell(self._server, refusal) from None


def from_options(options: Options) -> PostgresqlRotator:
    """Return the rotator `postgresql`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("postgresql", options)
    server = _take_server(given)
    logins = _take_logins(given)
    database = given.text("dbname", "postgres")
    probe = given.text("probe", "SELECT 1")
    rules = take_rules(given)
    given.finish()
    for text in (database, probe):
        if not text.strip() or "\0" in text or not is_unicode(text):
            message = "the options `dbname` and `probe` of the rotator `postgresql` are text that a server takes"
            raise InvalidRotation(message)
    return PostgresqlRotator(server, logins, database, rules, probe)


def _take_server(given: GivenOptions) -> Server:
    host = given.text("host")
    verify_host(host)
    port = given.number("port", _PORT, 1, _PORT_MAX)
    tls = given.choice("tls", ("verified", "insecure-disabled"), "insecure-disabled" if is_local(host) else "verified")
    authorities = given.text("tls-ca", "")
    if (tls == "verified" and host.startswith("/")) or (authorities and tls != "verified"):
        message = "the options `tls` and `tls-ca` are for a server that is reached over TLS"
        raise InvalidRotation(message)
    return Server(host, port, tls == "verified", authorities)


def _take_logins(given: GivenOptions) -> Logins:
    username, users = given.text("username", ""), take_users(given, NAME_BYTES_MAX)
    admin, password = given.text("admin", ""), given.secret("admin-password")
    for name in filter(None, (username, admin)):
        verify_username(name, NAME_BYTES_MAX)
    problem = ""
    if bool(admin) != (password is not None):
        problem = "an `admin` has an `admin-password`"
    elif username and users:
        problem = "there are `users` or a `username`"
    elif users and not admin:
        problem = "two `users` need an `admin`, as neither may change the password of the other"
    elif admin and not (username or users):
        # Else whoever writes the secret could have the administrator change any password, and read it.
        problem = "with an `admin` the role is named, by `username` or `users`"
    elif admin and admin in {username, *users}:
        problem = "the `admin` is another role than those whose passwords are changed"
    if problem:
        message = f"of the rotator `postgresql`: {problem}"
        raise InvalidRotation(message)
    return Logins(username, users, Login(admin, password) if password is not None else None)


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


def _not_changed(server: Server, refusal: Refusal) -> SecurecfgError:
    if refusal.code in {_MAY_NOT, _NO_SUCH_ROLE}:
        message = f"the login may not change the password of the role at `{server}`, or there is no such role"
        return PrivilegeMissing(message)
    if refusal.code == _READ_ONLY:
        message = f"`{server}` is a replica, where no password is changed"
        return TargetUnavailable(message)
    message = f"`{server}` will not have this password"
    return CandidateRejected(message)


def _not_able(server: Server, refusal: Refusal) -> SecurecfgError:
    message = f"the login is taken by `{server}`, but cannot do what it is for"
    return PrivilegeMissing(message, hint=f"the server says SQLSTATE {refusal.code}")


def _not_retired(server: Server, refusal: Refusal) -> SecurecfgError:
    problem = _not_changed(server, refusal)
    return _not_able(server, refusal) if isinstance(problem, CandidateRejected) else problem


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'
