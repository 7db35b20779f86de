"""A real sshd for tests, on a port of this machine, which trusts an authority and lets in who runs the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.crypto.ssh_keys import PrivateKey
    from securecfg.rotation import Fields

USER = pwd.getpwuid(os.getuid()).pw_name
_STARTED_S = 20.0
_SAID = "it-is-me"


class Authority(NamedTuple):
    """Who signs certificates.

    Attributes:
        private_key: In the format of OpenSSH.
        public_key: One line.
    """

    private_key: str
    public_key: str


class Sshd(NamedTuple):
    """A running server.

    Attributes:
        folder: With all its files.
        port: Where it listens.
        authority: Who signs certificates of users.
        process: The server.
    """

    folder: Path
    port: int
    authority: Authority
    process: subprocess.Popen[bytes]

    def run(self, value: Fields, command: str) -> str:
        """Return what a command prints for who holds a certificate; nothing where they are not let in."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            key = Path(name) / "id"
            _write(key, _text(value, "private_key"))
            _write(Path(f"{key}-cert.pub"), _text(value, "certificate"))
            options = ("-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
            return self._connect(options, command).stdout

    def lets_in(self, value: Fields) -> bool:
        """Return whether who holds a certificate can run a command."""
        return _SAID in self.run(value, f"echo {_SAID}")

    def revoke(self, serial: int) -> None:
        """Take back a certificate by its serial number."""
        numbers = self.folder / "serials"
        numbers.write_text(f"serial: {serial}\n")
        command = ("ssh-keygen", "-q", "-k", "-f", "revoked", "-s", "ca.pub", "serials")
        subprocess.run(command, cwd=self.folder, check=True)

    def is_believed_by_who_trusts(self, authority: Authority) -> bool:
        """Return whether a client that knows an authority, and no key of a host, takes this server for `localhost`."""
        known = self.folder / "known_hosts"
        known.write_text(f"@cert-authority * {authority.public_key}\n")
        said = self._connect(("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}"), "true").stderr
        # The key of the server is looked at before anybody logs in, which this client does not.
        assert ("Host key verification failed" in said) != ("Permission denied" in said), said
        return "Permission denied" in said

    def take_host_certificate(self, value: Fields) -> None:
        """Use another key and certificate from now on."""
        _write(self.folder / "host", _text(value, "private_key"))
        _write(self.folder / "host-cert.pub", _text(value, "certificate"))
        starts = self._starts()
        self.process.send_signal(signal.SIGHUP)
        self.wait(starts + 1)

    def wait(self, starts: int) -> None:
        """Wait until it has begun to listen as often as this."""
        until = time.monotonic() + _STARTED_S
        while self._starts() < starts:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "sshd does not listen"
            time.sleep(0.01)

    def _starts(self) -> int:
        return (self.folder / "log").read_text().count("Server listening")

    def _connect(self, options: tuple[str, ...], command: str) -> subprocess.CompletedProcess[str]:
        given: tuple[str, ...] = (
            "ssh",
            "-F",
            "none",
            "-4",
            "-p",
            str(self.port),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
        )
        given += ("-o", "GlobalKnownHostsFile=/dev/null", "-o", "KexAlgorithms=curve25519-sha256", *options)
        return subprocess.run((*given, "localhost", command), capture_output=True, text=True, timeout=20, check=False)


def make_authority(kind: str = "ed25519") -> Authority:
    """Make an authority with a key of a kind: `ed25519`, `ecdsa` or `rsa`."""
    key: PrivateKey = Ed25519PrivateKey.generate()
    if kind == "rsa":
        key = rsa.generate_private_key(65_537, 2_048)
    elif kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return Authority(private.decode(), key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@contextmanager
def running_sshd() -> Iterator[Sshd]:
    """Run a server as the user who runs the tests."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("needs the program `sshd`")
    if os.getuid() == 0:
        # As root it insists on this folder, which the service of the package would make.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    authority = make_authority()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "host", make_authority().private_key)
        _write(folder / "ca.pub", authority.public_key)
        subprocess.run(("ssh-keygen", "-q", "-k", "-f", folder / "revoked"), check=True)
        port = _free_port()
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nHostKey {folder}/host\n"
            f"HostCertificate {folder}/host-cert.pub\nTrustedUserCAKeys {folder}/ca.pub\nRevokedKeys {folder}/revoked\n"
            "AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nStrictModes no\nUseDNS no\nMaxStartups 100\n"
        )
        with (folder / "log").open("w") as log:
            process = subprocess.Popen((program, "-D", "-e", "-f", folder / "config"), stderr=log)
        with process:
            try:
                server = Sshd(folder, port, authority, process)
                server.wait(1)
                yield server
            finally:
                process.kill()


def _text(value: Fields, field: str) -> str:
    content = value[field].reveal()
    assert isinstance(content, str)
    return content


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n")
    path.chmod(0o600)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
