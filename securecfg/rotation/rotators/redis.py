"""Passwords of Redis ACL users.

A user may have several passwords. The new one is added beside the old one, and the old one taken away once nobody
needs it; nothing else of a user is touched. Servers are told the SHA-256 of a password, so that no command holds one.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    ExtraMissing,
    InvalidRotation,
    PrivilegeMissing,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.keys.uri import distribution_for
from securecfg.rotation.addresses import is_local, verify_host
from securecfg.rotation.deadline import left_of, shares
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.logins import PASSWORD, USERNAME, is_unicode
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import new_password, take_rules
from securecfg.rotation.servers import PORT_MAX, TLS, Server
from securecfg.rotation.values import text_of, with_field
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.passwords import Rules
    from securecfg.rotation.redis_session import AclUser, Session

SAVES = {"acl-save": ("ACL", "SAVE"), "config-rewrite": ("CONFIG", "REWRITE"), "none": ()}
PROBES = frozenset(
    {"DBSIZE", "EXISTS", "GET", "HLEN", "LLEN", "PING", "SCARD", "STRLEN", "TTL", "TYPE", "XLEN", "ZCARD"}
)
"""Commands that change nothing."""

_PORT = 6_379
_NAME_MAX = 256
_SERVERS_MAX = 64
# Which failure is told where servers fail in several ways: what is certain before what is not.
_TOLD_FIRST = (CandidateRejected, InvalidRotation, CredentialRefused, PrivilegeMissing, TargetUnavailable)


class Administrator(NamedTuple):
    """Who changes passwords of others.

    Attributes:
        username: By this name.
        password: With this.
        changes: The only user whose password is changed.
    """

    username: str
    password: Secret[str]
    changes: str


class RedisRotator:
    """Gives a user another password at each of some servers.

    Args:
        servers: All that the user logs in at.
        administrator: Who changes it, and whose password that is; None where the user does it.
        save: The command with which a server keeps its users over a restart; empty for none.
        probes: Commands that the user must be able to run.
        rules: What a password must be like.
    """

    strategy = Strategy.OVERLAPPING
    identity = frozenset({USERNAME})

    def __init__(
        self,
        servers: tuple[Server, ...],
        administrator: Administrator | None,
        save: tuple[str, ...],
        probes: tuple[tuple[str, ...], ...],
        rules: Rules,
    ) -> None:
        """Call nothing yet."""
        self._servers = servers
        self._administrator = administrator
        self._save = save
        self._probes = probes
        self._rules = rules

    @property
    def target(self) -> str:
        """The servers."""
        return f"redis {','.join(server.where for server in self._servers)}"

    def propose(self, run: Run, /) -> Candidate:
        """Return another password, and the other fields as they are.

        Raises:
            InvalidRotation: The secret names no user.
        """
        self._take_name(run.current)
        return Candidate(with_field(run.current, PASSWORD, Secret(new_password(self._rules))))

    def apply(self, run: Run, /) -> None:
        """Add the password to those of the user, and have the servers keep it.

        Raises:
            CandidateRejected: No client could be given such a password.
            InvalidRotation: A server has no such user, or one who needs no password.
            TargetUnavailable, CredentialRefused, PrivilegeMissing: At one of the servers, or more.
        """
        name = self._take_name(run.pending)
        if run.current is not None and self._take_name(run.current) != name:
            message = "the candidate is for another user"
            raise InvalidRotation(message)
        password = text_of(run.pending, PASSWORD).reveal()
        if not _is_word(password):
            message = "a password has no spaces, and nothing else that is not printed"
            raise CandidateRejected(message)

        def add(server: Server, until: float) -> None:
            with self._administering(server, run, until) as session:
                user = _find_user(session, name, server)
                self._change(session, name, _digest(password), user, "#")

        self._at_each(run, add)

    def verify(self, value: Fields, run: Run, /) -> None:
        """Log in at each server, see that it is as this user, and run the probes.

        Raises:
            CredentialRefused: A server does not accept it.
            PrivilegeMissing: A server does, and does not allow a probe.
            TargetUnavailable: A server cannot be asked.
        """
        username, password = (_text(value, field) for field in (USERNAME, PASSWORD))
        if not _is_word(username) or not is_unicode(password):
            message = "no user of a Redis server has such a name, or such a password"
            raise CredentialRefused(message)

        def log_in(server: Server, until: float) -> None:
            with _open(server, username, password, until) as session:
                if session.ask("ACL", "WHOAMI") != username.encode():
                    message = f"a login at `{server.where}` is as somebody else"
                    raise CredentialRefused(message)
                for probe in self._probes:
                    session.ask(*probe)

        self._at_each(run, log_in)

    def retire(self, run: Run, /) -> None:
        """Take the former password away from the user, and have the servers keep that.

        Raises:
            CredentialRefused: A server does not know the current password; it keeps the former one.
            InvalidRotation, TargetUnavailable, PrivilegeMissing: As for `apply`.
        """
        name = self._take_name(run.current)
        current, previous = (_digest(text_of(value, PASSWORD).reveal()) for value in (run.current, run.previous))
        if current == previous or text_of(run.previous, USERNAME).reveal() != name:
            return

        def take_away(server: Server, until: float) -> None:
            with self._administering(server, run, until) as session:
                user = _find_user(session, name, server)
                if current not in user.digests:
                    message = f"the current password is none of the user's at `{server.where}`"
                    raise CredentialRefused(message)
                self._change(session, name, previous, user, "!")

        self._at_each(run, take_away)

    def check(self, run: Run, /) -> list[str]:
        """Return what is missing at each server. Changes nothing.

        Raises:
            TargetUnavailable: A server cannot be asked.
            CredentialRefused: It refuses the login of who changes passwords.
            InvalidRotation: The secret names no user.
        """
        name, until = self._take_name(run.current), time.monotonic() + run.timeout_s
        missing: list[str] = []

        def look(server: Server, until: float) -> None:
            with self._administering(server, run, until) as session:
                missing.extend(f"at `{server.where}`: {what}" for what in self._missing(session, name))

        self._at_each(run, look)
        try:
            self.verify(run.current or {}, run._replace(timeout_s=left_of(until)))
        except (PrivilegeMissing, CredentialRefused) as error:
            missing.append(f"with what the secret holds: {error}")
        return missing

    def _missing(self, session: Session, name: str) -> Iterator[str]:
        try:
            user = session.user(name)
        except PrivilegeMissing:
            yield "`+acl|getuser`, to see which passwords there are"
            return
        if user is None:
            yield "the user"
            return
        if "nopass" in user.flags:
            yield "a password: the user needs none (`nopass`)"
        if "on" not in user.flags:
            yield "`on`: the user is switched off"
        try:
            session.ask("ACL", "SETUSER", name)  # without a rule it changes nothing of a user that there is
        except PrivilegeMissing:
            yield "`+acl|setuser`, to change the password"
        if not self._save:
            yield "`persist`: a new password will not outlive a restart"
            return
        asks = self._administrator.username if self._administrator else name
        try:
            if session.ask("ACL", "DRYRUN", asks, *self._save) != b"OK":
                yield f"`+{'|'.join(self._save).lower()}`, to keep a password over a restart"
            setting = session.ask("CONFIG", "GET", "aclfile")
            if (self._save == SAVES["acl-save"]) != bool(setting[1:] and setting[1]):
                yield f"what `{' '.join(self._save)}` needs: `aclfile` says which of them there is"
        except PrivilegeMissing:
            return  # it may change passwords all the same, and this is found out then

    def _change(self, session: Session, name: str, digest: str, user: AclUser, sign: str) -> None:
        """Add a password (`#`) or take it away (`!`), and save. Saved in any case: it may be that only that failed."""
        is_needed = (digest in user.digests) == (sign == "!")
        changes = [("ACL", "SETUSER", name, f"{sign}{digest}")] if is_needed else []
        answers = session.ask_all([*changes, *([self._save] if self._save else [])])
        refused = [answer for answer in answers if isinstance(answer, SecurecfgError)]
        if refused and is_needed and sign == "#" and not isinstance(answers[0], SecurecfgError):
            # Else it would be found accepted, and be lost at the next restart.
            session.ask("ACL", "SETUSER", name, f"!{digest}")
        if refused:
            raise refused[0]

    @contextmanager
    def _administering(self, server: Server, run: Run, until: float) -> Iterator[Session]:
        administrator = self._administrator
        if administrator is not None:
            with _open(server, administrator.username, administrator.password.reveal(), until) as session:
                yield session
            return
        with ExitStack() as stack:
            yield _log_in(server, run, until, stack)

    def _at_each(self, run: Run, do: Callable[[Server, float], None]) -> None:
        """Do something at each server, also where another one fails; each has its share of the time that is left."""
        ends = time.monotonic() + run.timeout_s
        failures: list[SecurecfgError] = []
        for server, until in shares(self._servers, ends):
            try:
                do(server, until)
            except _TOLD_FIRST as error:
                failures.append(error)
        for family in _TOLD_FIRST:
            for failure in failures:
                if isinstance(failure, family):
                    raise failure

    def _take_name(self, value: Fields | None) -> str:
        name = text_of(value, USERNAME).reveal()
        _verify_name(name)
        if self._administrator is not None and name != self._administrator.changes:
            message = "the secret is for another user than the rotation names"
            raise InvalidRotation(message, hint="see the option `username`")
        return name


def from_options(options: Options) -> RedisRotator:
    """Return the rotator `redis`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("redis", options)
    rules = take_rules(given)
    servers = _take_servers(given)
    name, password = given.text("admin-user", ""), given.secret("admin-password")
    changes = given.text("username", "")
    save = SAVES[given.choice("persist", tuple(SAVES))]
    probes = _take_probes(given)
    given.finish()
    if any(not _is_word(each) for each in rules.alphabet):
        message = "a password of a Redis user has no spaces"
        raise InvalidRotation(message)
    if name and (password is None or not _is_word(name)):
        message = "the option `admin-user` of the rotator `redis` is the name of a user, and needs `admin-password`"
        raise InvalidRotation(message)
    if bool(changes) != (password is not None):
        # Else whoever writes the secret could have the administrator let him in as any user.
        message = "the rotator `redis` has `admin-password` and `username`, whose password that one changes, or neither"
        raise InvalidRotation(message)
    if changes:
        _verify_name(changes)
    if changes and changes == (name or "default"):
        message = "the user is the administrator: leave `admin-password` out, or take another one"
        raise InvalidRotation(message)
    administrator = None if password is None else Administrator(name or "default", password, changes)
    return RedisRotator(servers, administrator, save, probes, rules)


def _verify_name(name: str) -> None:
    if not _is_word(name) or len(name) > _NAME_MAX:
        message = f"the name of a Redis user has no spaces, nothing that is not printed, and 1 to {_NAME_MAX} letters"
        raise InvalidRotation(message)
    if name == "default":
        message = "the user `default` is not rotated"
        raise InvalidRotation(message, hint="`requirepass` would bring the old password back: make a user of its own")


def _take_servers(given: GivenOptions) -> tuple[Server, ...]:
    texts = given.text("hosts").split(",")
    tls = given.choice("tls", ("", *TLS), "")
    authorities = given.text("tls-ca", "")
    servers = []
    for text in texts:
        host, port = _split_host(text)
        is_tls = not host.startswith("/") and (tls == "verified" or (not tls and not is_local(host)))
        servers.append(Server("redis", host, port, is_tls, authorities))
    if len({server.where for server in servers}) < len(servers) or len(servers) > _SERVERS_MAX:
        message = f"the option `hosts` of the rotator `redis` names up to {_SERVERS_MAX} servers, each once"
        raise InvalidRotation(message)
    if authorities and not any(server.is_verified for server in servers):
        message = "the option `tls-ca` of the rotator `redis` is given, and none of the servers is asked over TLS"
        raise InvalidRotation(message)
    return tuple(servers)


def _split_host(text: str) -> tuple[str, int]:
    if text.startswith("/"):
        verify_host(text)
        return text, 0
    host, port = text, str(_PORT)
    if text.startswith("["):
        host, end, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest or not end else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    verify_host(host)
    if not (port.isascii() and port.isdecimal() and len(port) <= len(str(PORT_MAX)) and 0 < int(port) <= PORT_MAX):
        message = "the option `hosts` of the rotator `redis` is `HOST:PORT`, or the path of a socket, joined by commas"
        raise InvalidRotation(message)
    return host, int(port)


def _take_probes(given: GivenOptions) -> tuple[tuple[str, ...], ...]:
    probes = tuple(tuple(each.split()) for each in given.text("probe", "PING").split(";"))
    if not all(probe and probe[0] in PROBES and all(map(_is_word, probe)) for probe in probes):
        message = f"the option `probe` of the rotator `redis` begins with one of {', '.join(sorted(PROBES))}"
        raise InvalidRotation(message, hint="several commands are joined by `;`")
    return probes


@contextmanager
def _open(server: Server, username: str, password: str, until: float) -> Iterator[Session]:
    try:
        from securecfg.rotation.redis_session import open_session
    except ModuleNotFoundError:
        message = "the rotator `redis` needs the package `redis`"
        raise ExtraMissing(message, hint=f"pip install {distribution_for('redis')}") from None
    with open_session(server, username, password, until) as session:
        yield session


def _log_in(server: Server, run: Run, until: float, stack: ExitStack) -> Session:
    """Return a session of the user, by whichever of the passwords that are known, likeliest first.

    Raises:
        CredentialRefused: The server accepts none of them.
        TargetUnavailable: It cannot be asked.
    """
    name = text_of(run.current, USERNAME).reveal()
    for login in (run.current, run.pending, run.previous):
        if login is not None and _text(login, USERNAME) == name:
            with suppress(CredentialRefused):
                return stack.enter_context(_open(server, name, text_of(login, PASSWORD).reveal(), until))
    message = f"`{server.where}` accepts none of the passwords of the user that are known"
    raise CredentialRefused(message, hint="write the right one, or give the rotation an `admin-password`")


def _find_user(session: Session, name: str, server: Server) -> AclUser:
    """Return a user of a server; `ACL SETUSER` would make one that there is not.

    Raises:
        InvalidRotation: There is none, or one whom a password would be new to, so that everybody else is cut off.
        TargetUnavailable, PrivilegeMissing: The server does not say.
    """
    user = session.user(name)
    if user is None or "nopass" in user.flags:
        what = "needs no password" if user else "is not there"
        message = f"the user {what} at `{server.where}`"
        raise InvalidRotation(message)
    return user


def _text(value: Fields, field: str) -> str:
    try:
        return text_of(value, field).reveal()
    except InvalidRotation:
        return ""


def _is_word(text: str) -> bool:
    return bool(text) and text.isprintable() and not any(map(str.isspace, text))


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode(errors="surrogatepass")).hexdigest()
