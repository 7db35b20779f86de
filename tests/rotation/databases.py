"""What must hold for the passwords of users of each kind of database, at a real server."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from itertools import count
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from securecfg.errors import CandidateRejected, CredentialRefused, InvalidRotation, TargetUnavailable
from securecfg.rotation import ChecksPrivileges, Strategy
from securecfg.secret import Secret
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from securecfg.testing.rotator_conformance import RotatorConformance, begin, plain, propose, propose_and_apply, swap
from tests.rotation.targets import login, pending_of, run_of
from tests.rotation.unprivileged import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.tcp_relay import TcpRelay

PASSWORD = "canary-password-of-a-user"
NUMBERS = count()
TWICE = "db.internal"
"""A machine with two addresses."""


class DatabaseUsers(ABC):
    """Two users that a test has for itself, somebody who may change their passwords, and a rotator's way to them.

    Args:
        server: Where they are.
        kind: Who changes whose password: `own`, `admin` or `users`; with `-url` where the value is one.
        relay: Over which the rotator reaches the server; None where it does so directly.
        more: Further fields of the value.
    """

    is_remote = True
    scheme = rest_of_url = ""

    def __init__(self, server: Any, kind: str, relay: TcpRelay | None = None, **more: str) -> None:  # noqa: ANN401 - of each kind
        number = next(NUMBERS)
        self.server = server
        self.users = [f"app{number}_a", f"app{number}_b"]
        self.manager = f"manager{number}"
        self._relay = relay
        for user in self.users:
            self.create(user)
        self.create_manager(self.manager)
        port = server.port if relay is None else relay.port
        options: dict[str, str | Secret[str] | Secret[bytes]] = {"host": "127.0.0.1", "port": str(port)}
        if "own" not in kind:
            options |= {"admin": self.manager, "admin-password": Secret(PASSWORD)}
            options |= {"users": ",".join(self.users)} if "users" in kind else {"username": self.users[0]}
        self.options: Options = options
        self.current = login(self.users[0], PASSWORD, **more)
        if "url" in kind:
            self.current = {"": Secret(f"{self.scheme}://{self.users[0]}:{PASSWORD}{self.rest_of_url}")}

    @property
    def relay(self) -> TcpRelay:
        assert self._relay is not None
        return self._relay

    @abstractmethod
    def rotator(self, options: Options) -> Rotator: ...

    @abstractmethod
    def create(self, user: str) -> None:
        """Make a user that logs in with `PASSWORD`."""

    @abstractmethod
    def create_manager(self, user: str) -> None:
        """Make one that may change the passwords of others as well."""

    @abstractmethod
    def set_password(self, user: str, password: str) -> None: ...

    def make(self, **options: str | Secret[str]) -> Rotator:
        return self.rotator({**self.options, **options})

    def accepts(self, value: Fields, /) -> bool:
        text = plain(value)
        if "" in text:
            parts = urlsplit(str(text[""]))
            return bool(self.server.login(parts.username or "", parts.password or ""))
        return bool(self.server.login(str(text["username"]), str(text["password"])))

    def hold(self, *values: Fields) -> None:
        passwords = dict.fromkeys(self.users, "canary-password-that-is-stored-nowhere")
        for value in map(plain, values):
            passwords[str(value["username"])] = str(value["password"])
        for user, password in passwords.items():
            self.set_password(user, password)

    def cut_off(self) -> None:
        self.relay.cut_off()

    def restore(self) -> None:
        self.relay.restore()


class DatabaseConformance(RotatorConformance):
    """Beside the obligations of all rotators, what is alike for databases; with the fixtures of its subclass's module.

    They are `users_of`, a function from a kind to users, and `certificates`: the file of an authority, and that of the
    server, which is called by its address only.
    """

    large_probe = ""
    """A query that gives 200 rows of a million characters."""
    slow_probe = ""
    """A query without an end."""

    @pytest.fixture(params=["own", "admin-url", "users", "users-url"])
    def target(self, request: pytest.FixtureRequest, users_of: Callable[[str], DatabaseUsers]) -> DatabaseUsers:
        return users_of(request.param)

    @pytest.mark.parametrize(
        "value",
        [
            {},
            {"username": Secret("u")},
            {"password": Secret("p")},
            {"username": Secret(b"\xff"), "password": Secret("p")},
            {"username": Secret("u"), "password": Secret(b"\xff")},
            {"username": Secret(""), "password": Secret("p")},
            {"username": Secret("u\0"), "password": Secret("p")},
            {"username": Secret("\udc80"), "password": Secret("p")},
            {"username": Secret("u" * 129), "password": Secret("p")},
            {"username": Secret("u"), "password": Secret("p"), "dbname": Secret("d\0")},
            {"": Secret("canary-no-url")},
            {"": Secret("other://u:canary@h/d")},
            {"": Secret("SCHEME://u@h/d")},
            {"": Secret("SCHEME://:canary@h/d")},
            {"": Secret("SCHEME://u:canary@other@h/d")},
            {"": Secret("SCHEME://u:canary/x@h/d")},
            {"": Secret("SCHEME://u:canary@h/d?password=canary")},
            {"": Secret("SCHEME://u:canary@h/d?%75ser=canary")},
            {"": Secret("SCHEME://u:canary@h/d?dbname=canary")},
            {"": Secret("SCHEME://u%ff:canary@h/d")},
            {"": Secret("SCHEME://u%00:canary@h/d")},
            {"": Secret("SCHEME://u:canary@h/d\n")},
            {"": Secret(b"\xff")},
        ],
    )
    def test_refuses_a_value_that_is_no_login(self, value: Fields, own: DatabaseUsers) -> None:
        if "" in value and isinstance(url := value[""].reveal(), str):
            value = {"": Secret(url.replace("SCHEME", own.scheme))}
        rotator = self.make({"host": "127.0.0.1", "port": "1"})
        for call in (
            lambda: rotator.propose(run_of(value)),
            lambda: rotator.apply(run_of(None, value)),
            lambda: rotator.verify(value, run_of()),
        ):
            with pytest.raises(InvalidRotation) as caught:
                call()
            assert "canary" not in str(caught.value)

    def test_a_first_value_is_for_the_user_that_the_rotation_names(
        self, two: DatabaseUsers, administered: DatabaseUsers
    ) -> None:
        for users in (two, administered):
            run = propose(users.make(), run_of())
            assert plain(run.pending)["username"] == users.users[0]
            users.make().apply(run)
            assert users.accepts(pending_of(run))

    def test_two_users_take_turns_and_the_old_one_is_locked_out(self, two: DatabaseUsers) -> None:
        rotator, current = two.make(), two.current
        assert rotator.strategy is Strategy.TWO_USERS
        seen = []
        for _ in range(3):
            run = propose(rotator, run_of(current))
            rotator.apply(run)
            rotator.verify(pending_of(run), run)
            run = swap(run)
            rotator.retire(run)
            assert run.current is not None
            assert not two.accepts(current)
            current = run.current
            seen.append(plain(current)["username"])
        assert seen == [two.users[1], two.users[0], two.users[1]]

    @pytest.mark.parametrize("kind", ["admin", "users"])
    def test_an_administrator_changes_nobody_else(self, kind: str, users_of: Callable[[str], DatabaseUsers]) -> None:
        users = users_of(kind)
        users.create(name := f"victim{next(NUMBERS)}")
        victim = login(name, "canary-new")
        rotator = users.make()
        with pytest.raises(InvalidRotation):
            rotator.propose(run_of(victim))
        for run in (run_of(victim, victim), run_of(None, victim), run_of(users.current, victim)):
            with pytest.raises(InvalidRotation):
                rotator.apply(run)
        if kind == "users":
            with pytest.raises(InvalidRotation):
                rotator.retire(run_of(users.current)._replace(previous=victim))
        assert users.server.login(name, PASSWORD)

    def test_a_candidate_for_the_user_in_use_is_not_applied(self, two: DatabaseUsers) -> None:
        with pytest.raises(InvalidRotation):
            two.make().apply(run_of(two.current, login(two.users[0], "canary-new")))
        assert two.accepts(two.current)

    def test_a_candidate_for_another_user_is_not_applied(self, own: DatabaseUsers) -> None:
        with pytest.raises(InvalidRotation):
            own.make().apply(run_of(own.current, login(own.users[1], "canary-new")))

    def test_a_candidate_for_another_database_is_not_applied(self, own: DatabaseUsers) -> None:
        urls = [{"": Secret(f"{own.scheme}://{own.users[0]}:{PASSWORD}@{where}")} for where in ("h/shop", "evil/shop")]
        with pytest.raises(InvalidRotation):
            own.make().apply(run_of(urls[0], urls[1]))
        with pytest.raises(InvalidRotation):
            own.make().apply(run_of(own.current, urls[0]))

    def test_what_is_current_keeps_its_password_when_it_is_also_the_old_one(self, two: DatabaseUsers) -> None:
        two.make().retire(run_of(two.current)._replace(previous=login(two.users[0], "canary-older")))
        assert two.accepts(two.current)

    @pytest.mark.parametrize("password", ["", "\0", "a\0b", "\udc80"])
    def test_what_cannot_be_a_password_is_refused(self, password: str, administered: DatabaseUsers) -> None:
        value = login(administered.users[0], password)
        with pytest.raises(CredentialRefused):
            administered.make().verify(value, run_of())
        with pytest.raises(CandidateRejected):
            administered.make().apply(run_of(administered.current, value))

    def test_an_administrator_who_is_refused_is_told_apart(self, two: DatabaseUsers) -> None:
        rotator = two.make(**{"admin-password": Secret("canary-wrong")})
        run = propose(rotator, begin(two))
        with pytest.raises(CredentialRefused):
            rotator.apply(run)
        with pytest.raises(CredentialRefused):
            rotator.retire(swap(run))

    def test_a_user_whose_password_nobody_knows_is_refused(self, own: DatabaseUsers) -> None:
        current = login(own.users[0], "canary-wrong")
        with pytest.raises(CredentialRefused) as caught:
            own.make().apply(propose(own.make(), run_of(current)))
        assert "admin" in caught.value.hint

    def test_a_user_takes_up_again_from_the_previous_password(self, own: DatabaseUsers) -> None:
        run = propose(own.make(), run_of(login(own.users[0], "canary-wrong")))
        run = run._replace(previous=own.current)
        own.make().apply(run)
        assert own.accepts(pending_of(run))

    def test_a_previous_value_that_is_no_login_is_in_nobodys_way(self, own: DatabaseUsers) -> None:
        """Somebody has written the secret over by mistake, and then put it right."""
        run = propose(own.make(), run_of(own.current))
        own.make().apply(run._replace(previous={"": Secret("canary-by-mistake")}))
        assert own.accepts(pending_of(run))

    def test_a_server_proves_by_its_certificate_that_it_is_this_one(
        self, own: DatabaseUsers, certificates: tuple[Path, Path]
    ) -> None:
        authority = str(certificates[0])
        rotator = own.make(**{"tls": "verified", "tls-ca": authority})
        run = propose_and_apply(rotator, own)
        rotator.verify(pending_of(run), run)
        for options in ({"tls": "verified"}, {"tls": "verified", "tls-ca": authority, "host": "localhost"}):
            with pytest.raises(TargetUnavailable) as caught:
                own.make(**options).verify(pending_of(run), run)
            assert "certificate" in caught.value.hint

    def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(
        self, own: DatabaseUsers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with unanswered(own.relay.port, monkeypatch):
            own.make(host=TWICE, tls="insecure-disabled").verify(own.current, run_of(timeout_s=2.0))

    def test_a_probe_that_gives_more_than_memory_holds_is_run_all_the_same(self, own: DatabaseUsers) -> None:
        before = _memory_bytes()
        own.make(probe=self.large_probe).verify(own.current, run_of())
        assert _memory_bytes() - before < 100 << 20

    def test_what_is_checked_takes_no_longer_than_the_time_limit(self, administered: DatabaseUsers) -> None:
        rotator = administered.make(probe=self.slow_probe)
        assert isinstance(rotator, ChecksPrivileges)
        administered.relay.delay(0.08)
        started = time.monotonic()
        with pytest.raises(TargetUnavailable):
            rotator.check(run_of(administered.current, timeout_s=1.5))
        assert time.monotonic() - started < 2.2

    def test_a_port_where_nobody_listens_is_unavailable(self) -> None:
        rotator = self.make({"host": "127.0.0.1", "port": str(free_port())})
        with pytest.raises(TargetUnavailable):
            rotator.verify(login("u", "canary-password"), run_of())


class DatabaseKillMatrix(RotationKillMatrix):
    """What holds wherever a rotation is cut off, at the server that the fixture `server` of the module gives.

    Attributes:
        users: The class of users of that server.
        kind: Of which kind they are.
    """

    sample = 1
    most = 300
    users: type[DatabaseUsers]
    kind = ""

    def make(self, options: Options) -> Rotator:
        return self._held.rotator(options)

    @pytest.fixture
    def target(self, server: object) -> DatabaseUsers:
        self._held = self.users(server, self.kind, team="payments-team")
        return self._held


@contextmanager
def unanswered(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a name stand for two addresses of this machine, at the first of which nobody ever answers."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
    find = socket.getaddrinfo
    with ExitStack() as stack:
        stack.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
        for _ in range(4):  # who waits to be accepted, so that nobody else can
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))

        def answer(host: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as the system's own
            return found if host == TWICE else find(host, *rest, **more)

        with monkeypatch.context() as patched:
            patched.setattr(
                socket,
                "getaddrinfo",
                lambda host, *rest, **named: found if host == TWICE else find(host, *rest, **named),
            )
            yield


def _memory_bytes() -> int:
    """Return how much memory this process has had at the most."""
    return getrusage(RUSAGE_SELF).ru_maxrss << 10
