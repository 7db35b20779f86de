"""An etcd server for tests: the real one, of which each test has a folder and a user of its own, behind a proxy."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from securecfg.testing.faulty_proxy import Answer, FaultyProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES = ("ENDPOINTS", "CACERT", "CERT", "KEY", "USER", "PASSWORD")
ROOT_PASSWORD = "canary-root-password"
_NUMBERS = count()
_STARTED_S = 20.0


class Etcd(NamedTuple):
    """A server with users, or without.

    Attributes:
        port: Where it listens for clients.
        token: Of the user `root`.
    """

    port: int
    token: str

    def ask(self, method: str, **body: Any) -> Any:  # noqa: ANN401 - JSON
        """Return what the server answers to somebody who may do everything."""
        return _ask(self.port, method, body, self.token)

    def put(self, key: str | bytes, value: bytes) -> int:
        """Write as somebody else would, and return the revision."""
        return int(self.ask("kv/put", key=_encode(key), value=_encode(value))["header"]["revision"])

    def get(self, key: str) -> Any:  # noqa: ANN401 - JSON
        """Return a key with what is known of it."""
        [found] = self.ask("kv/range", key=_encode(key))["kvs"]
        return found

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.ask("kv/deleterange", key=_encode(key))

    def compact(self) -> None:
        """Let the server forget what was before."""
        revision = self.ask("kv/range", key=_encode("nothing"))["header"]["revision"]
        self.ask("kv/compaction", revision=revision, physical=True)

    def fill(self, folder: str, size: int) -> None:
        """Make many secrets quickly."""
        for start in range(0, size, 100):
            puts = [
                {"request_put": {"key": _encode(f"{folder}many/{number:05}"), "value": _encode("x")}}
                for number in range(start, min(start + 100, size))
            ]
            self.ask("kv/txn", success=puts)


class Keys(NamedTuple):
    """A folder, and a user who may do everything there.

    Attributes:
        etcd: The server itself.
        proxy: In front of it.
        folder: With `/` at its end.
        user: Who has a role of the same name.
        password: Theirs.
    """

    etcd: Etcd
    proxy: FaultyProxy
    folder: str
    user: str
    password: str

    @property
    def methods(self) -> list[str]:
        """What was asked for."""
        return [exchange.path.removeprefix("/v3/") for exchange in self.proxy.exchanges]

    def allow(self, kind: str = "READWRITE") -> None:
        """Let the user read, write or both below the folder."""
        self.etcd.ask("auth/role/grant", name=self.user, perm={"permType": kind, **self._range()})

    def deny(self) -> None:
        """Let the user do nothing any more."""
        self.etcd.ask("auth/role/revoke", role=self.user, **self._range())

    def change_password(self, password: str) -> None:
        """Let the user have another password, and no token that was given for the former."""
        self.etcd.ask("auth/user/changepw", name=self.user, password=password)

    def _range(self) -> dict[str, str]:
        return {"key": _encode(self.folder), "range_end": _encode(self.folder[:-1] + "0")}


@contextmanager
def etcd_server(*arguments: str, is_guarded: bool = True) -> Iterator[Etcd]:
    """Run a server of one member; with users unless it is not guarded."""
    program = shutil.which("etcd")
    if program is None:
        pytest.skip("needs the program `etcd`")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        port, peers = _free_port(), _free_port()
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
        if "--cert-file" in arguments:
            client = client.replace("http:", "https:")
        command = [program, "--data-dir", folder, "--bcrypt-cost", "4", "--logger", "zap", "--log-level", "fatal"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}", *arguments]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        stack.callback(process.kill)
        _wait_until_it_listens(port)
        yield Etcd(port, _enable_users(port) if is_guarded else "")


@contextmanager
def etcd_keys(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """Make a folder and a user, and let the environment lead to them."""
    user = f"web{next(_NUMBERS)}"
    with FaultyProxy("127.0.0.1", etcd.port) as proxy:
        keys = Keys(etcd, proxy, f"{user}/", user, f"canary-password-of-{user}")
        etcd.ask("auth/user/add", name=user, password=keys.password)
        etcd.ask("auth/role/add", name=user)
        etcd.ask("auth/user/grant", user=user, role=user)
        keys.allow()
        for variable in VARIABLES:
            monkeypatch.delenv(f"ETCDCTL_{variable}", raising=False)
        monkeypatch.setenv("ETCDCTL_ENDPOINTS", proxy.url)
        monkeypatch.setenv("ETCDCTL_USER", user)
        monkeypatch.setenv("ETCDCTL_PASSWORD", keys.password)
        yield keys


def refusal(status: int, code: int, words: str) -> Answer:
    """Return the answer with which etcd refuses."""
    body = json.dumps({"error": words, "message": words, "code": code}).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


def _enable_users(port: int) -> str:
    _ask(port, "auth/user/add", {"name": "root", "password": ROOT_PASSWORD})
    _ask(port, "auth/role/add", {"name": "root"})
    _ask(port, "auth/user/grant", {"user": "root", "role": "root"})
    _ask(port, "auth/enable", {})
    token: str = _ask(port, "auth/authenticate", {"name": "root", "password": ROOT_PASSWORD})["token"]
    return token


def _ask(port: int, method: str, body: Any, token: str = "") -> Any:  # noqa: ANN401 - JSON
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Authorization": token} if token else {}
        connection.request("POST", f"/v3/{method}", json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return answer
    finally:
        connection.close()


def _encode(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_it_listens(port: int) -> None:
    until = time.monotonic() + _STARTED_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until, "etcd does not listen"
            time.sleep(0.02)
