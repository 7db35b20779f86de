"""The rotator `ssh`, against the server and the tools of OpenSSH."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization.ssh import (
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
)

from securecfg.clock import SystemClock, to_datetime
from securecfg.crypto.ssh_keys import load_private_key
from securecfg.errors import CandidateRejected, CredentialRefused, InvalidRotation, PrivilegeMissing, SecurecfgError
from securecfg.rotation import Run, open_rotator
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.rotators.ssh import BACKDATED_S, SshRotator, from_options
from securecfg.rotation.ssh_grants import take_grant
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import RotatorConformance, plain
from tests.rotation.sshd import USER, make_authority, running_sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.sshd import Authority, Sshd

TOKEN = "0123456789abcdef" * 2
FIELDS = {"private_key", "certificate", "public_key"}


class _At:
    """A clock that stands."""

    def __init__(self, hours: float) -> None:
        self._ns = SystemClock().now_ns() + int(hours * 3_600 * 10**9)

    def now_ns(self) -> int:
        return self._ns


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with running_sshd() as server:
        yield server


def _options(authority: Authority, **others: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): value for name, value in others.items()}
    return {"ca-key": Secret(authority.private_key), "kind": "user", "principals": USER, "hours": "1", **names}


def _made(options: Options, clock: _At | None = None, current: Fields | None = None) -> Fields:
    """Return what a rotator proposes, now or when it was another time."""
    rotator = from_options(options) if clock is None else _rotator_at(options, clock)
    value = rotator.propose(_run(current)).value
    assert not isinstance(value, Secret)
    return value


def _rotator_at(options: Options, clock: _At) -> SshRotator:
    given = GivenOptions("ssh", options)
    authority = cast("Secret[str]", options["ca-key"]).reveal()
    return SshRotator(load_private_key(authority.encode(), None), take_grant(given), "ed25519", clock)


def _run(current: Fields | None = None, pending: Fields | None = None) -> Run:
    return Run(TOKEN, datetime.now(UTC), 1.0, current, pending=pending)


def _parsed(value: Fields) -> SSHCertificate:
    certificate = load_ssh_public_identity(str(value["certificate"].reveal()).encode())
    assert isinstance(certificate, SSHCertificate)
    return certificate


class _Trusting:
    """A server that trusts an authority, and is told of nothing."""

    is_remote = False

    def __init__(self, sshd: Sshd, key_type: str) -> None:
        self.options: Options = _options(sshd.authority, key_type=key_type)
        self.current = _made(self.options, current={"team": Secret("payments-team")})
        self.accepts = sshd.lets_in

    def cut_off(self) -> None:
        """Nothing is reached."""

    def restore(self) -> None:
        """Nothing was reached."""


class TestSsh(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["ed25519", "ecdsa-p256"])
    def target(self, request: pytest.FixtureRequest, sshd: Sshd) -> _Trusting:
        return _Trusting(sshd, request.param)


# --- sshd and ssh ---


def test_is_found_by_its_name() -> None:
    assert open_rotator("ssh", _options(make_authority())).target == "ssh"


def test_an_expired_certificate_is_let_in_by_nobody(sshd: Sshd) -> None:
    options = _options(sshd.authority)
    value = _made(options, _At(-1.1))
    assert not sshd.lets_in(value)
    with pytest.raises(CredentialRefused) as caught:
        from_options(options).verify(value, _run())
    assert caught.value.code == "credential-refused"


def test_a_certificate_that_has_not_begun_is_let_in_by_nobody(sshd: Sshd) -> None:
    options = _options(sshd.authority)
    value = _made(options, _At(1))
    assert not sshd.lets_in(value)
    with pytest.raises(CredentialRefused):
        from_options(options).verify(value, _run())


def test_a_certificate_of_another_authority_is_let_in_by_nobody(sshd: Sshd) -> None:
    value = _made(_options(make_authority()))
    assert not sshd.lets_in(value)
    with pytest.raises(CredentialRefused):
        from_options(_options(sshd.authority)).verify(value, _run())


def test_a_certificate_of_another_user_is_not_let_in(sshd: Sshd) -> None:
    value = _made(_options(sshd.authority, principals="somebody-else"))
    assert not sshd.lets_in(value)
    with pytest.raises(PrivilegeMissing):
        from_options(_options(sshd.authority)).verify(value, _run())


def test_a_certificate_of_a_host_lets_in_no_user(sshd: Sshd) -> None:
    value = _made(_options(sshd.authority, kind="host", principals=USER.lower()))
    assert not sshd.lets_in(value)
    with pytest.raises(PrivilegeMissing):
        from_options(_options(sshd.authority)).verify(value, _run())


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_an_authority_of_any_kind_signs(kind: str) -> None:
    options = _options(make_authority(kind))
    value = _made(options)
    from_options(options).verify(value, _run())
    assert f"Signing CA: {kind.upper()} " in _described(value)


def test_a_forced_command_is_the_only_one(sshd: Sshd) -> None:
    options = _options(sshd.authority, force_command="echo 'only, this=1'")
    assert sshd.run(_made(options), "echo another") == "only, this=1\n"


def test_an_address_decides_from_where_a_certificate_is_let_in(sshd: Sshd) -> None:
    assert not sshd.lets_in(_made(_options(sshd.authority, source_address="192.0.2.0/24,2001:db8::/32")))
    assert sshd.lets_in(_made(_options(sshd.authority, source_address="192.0.2.0/24,127.0.0.0/8")))


def test_a_server_takes_back_a_certificate_by_its_serial_number(sshd: Sshd) -> None:
    value, other = _made(_options(sshd.authority)), _made_under(_options(sshd.authority), "f" * 32)
    sshd.revoke(_parsed(value).serial)
    assert not sshd.lets_in(value)
    assert sshd.lets_in(other)
    sshd.revoke(1)


def test_a_client_believes_a_server_with_a_certificate_and_after_the_next_one_too(sshd: Sshd) -> None:
    authority = make_authority()
    options = _options(authority, kind="host", principals="localhost,db.example", hours="2")
    assert not sshd.is_believed_by_who_trusts(authority)
    sshd.take_host_certificate(first := _made(options))
    assert sshd.is_believed_by_who_trusts(authority)
    assert not sshd.is_believed_by_who_trusts(make_authority())
    sshd.take_host_certificate(second := _made(options, current=first))
    assert first["private_key"] != second["private_key"]
    assert sshd.is_believed_by_who_trusts(authority)
    sshd.take_host_certificate(_made(options, _At(-2.1)))
    assert not sshd.is_believed_by_who_trusts(authority)
    sshd.take_host_certificate(_made({**options, "principals": "db.example"}))
    assert not sshd.is_believed_by_who_trusts(authority)


# --- what is in a certificate ---


def _made_under(options: Options, token: str) -> Fields:
    value = from_options(options).propose(_run()._replace(token=token)).value
    assert not isinstance(value, Secret)
    return value


def _described(value: Fields) -> str:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cert.pub"
        path.write_text(f"{plain(value)['certificate']!s}\n")
        command = ("ssh-keygen", "-L", "-f", path)
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"}
        ).stdout


def test_ssh_keygen_reads_what_is_in_it() -> None:
    authority = make_authority()
    options = _options(
        authority,
        principals="deploy,role/web@EXAMPLE",
        extensions="permit-pty,permit-port-forwarding",
        force_command="uptime",
        source_address="10.0.0.0/8",
    )
    value = _made(options)
    lines = [line.strip() for line in _described(value).splitlines()]
    assert "Type: ssh-ed25519-cert-v01@openssh.com user certificate" in lines
    assert f'Key ID: "securecfg-{TOKEN}"' in lines
    assert f"Serial: {0x0123456789ABCDEF}" in lines
    rest = lines[lines.index("Principals:") :]
    assert rest == [
        "Principals:",
        "deploy",
        "role/web@EXAMPLE",
        "Critical Options:",
        "force-command uptime",
        "source-address 10.0.0.0/8",
        "Extensions:",
        "permit-port-forwarding",
        "permit-pty",
    ]
    assert set(value) == FIELDS


def test_allows_nothing_unless_told() -> None:
    lines = [line.strip() for line in _described(_made(_options(make_authority()))).splitlines()]
    assert "Critical Options: (none)" in lines
    assert "Extensions: (none)" in lines


def test_the_private_key_is_read_by_ssh_keygen_and_belongs_to_the_public_one(tmp_path: Path) -> None:
    value = plain(_made(_options(make_authority())))
    path = tmp_path / "id"
    path.write_text(str(value["private_key"]))
    path.chmod(0o600)
    said = subprocess.run(("ssh-keygen", "-y", "-f", path), capture_output=True, text=True, check=True).stdout
    assert said.split()[:2] == str(value["public_key"]).split()


@pytest.mark.parametrize(("option", "lasts"), [("hours", timedelta(hours=12)), ("days", timedelta(days=12))])
def test_says_when_it_ends(option: str, lasts: timedelta) -> None:
    clock = _At(0)
    options = _options(make_authority())
    del options["hours"]
    candidate = _rotator_at({**options, option: "12"}, clock).propose(_run())
    now = to_datetime(clock.now_ns()).replace(microsecond=0)
    assert candidate.ends == now + lasts
    assert not isinstance(candidate.value, Secret)
    certificate = _parsed(candidate.value)
    assert certificate.valid_before == candidate.ends.timestamp()
    assert certificate.valid_after == now.timestamp() - BACKDATED_S


def test_leaves_other_fields_alone() -> None:
    value = plain(_made(_options(make_authority()), current={"team": Secret("web"), "private_key": Secret("old")}))
    assert value["team"] == "web"
    assert value["private_key"] != "old"


def test_makes_no_fields_of_a_value_without_any() -> None:
    with pytest.raises(InvalidRotation) as caught:
        _made(_options(make_authority()), current={"": Secret("old")})
    assert "private_key" in caught.value.hint


# --- candidates that are not what the options say ---


@pytest.mark.parametrize(
    "other",
    [
        {"principals": "deploy,root"},
        {"principals": "root,deploy"},
        {"force-command": "uptime"},
        {"source-address": "10.0.0.0/8"},
        {"extensions": "permit-pty"},
        {"kind": "host"},
    ],
)
def test_what_a_certificate_says_is_what_the_options_say(other: dict[str, str]) -> None:
    options = _options(make_authority(), principals="deploy")
    changed = {**options, **other}
    for made, asked in ((options, changed), (changed, options)):
        value = _made(made)
        from_options(made).verify(value, _run())
        with pytest.raises(PrivilegeMissing) as caught:
            from_options(asked).verify(value, _run())
        assert caught.value.code == "privilege-missing"
        with pytest.raises(CandidateRejected):
            from_options(asked).apply(_run(pending=value))


def test_a_candidate_that_has_ended_meanwhile_makes_room_for_another() -> None:
    options = _options(make_authority())
    with pytest.raises(CandidateRejected) as caught:
        from_options(options).apply(_run(pending=_made(options, _At(-2))))
    assert caught.value.code == "candidate-rejected"
    with pytest.raises(CandidateRejected):
        from_options(options).apply(_run())


def test_a_certificate_that_is_good_for_everybody_is_refused() -> None:
    authority = make_authority()
    options = _options(authority)
    rotator = from_options(options)
    key = Ed25519PrivateKey.generate()
    everybody = (
        SSHCertificateBuilder(_valid_for_all_principals=True)
        .type(SSHCertificateType.USER)
        .public_key(key.public_key())
        .valid_after(0)
        .valid_before(2**64 - 1)
        .sign(load_private_key(authority.private_key.encode(), None))
    )
    value = {
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "certificate": everybody.public_bytes(),
        "public_key": key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    }
    with pytest.raises(PrivilegeMissing):
        rotator.verify({name: Secret(text.decode()) for name, text in value.items()}, _run())


def _swap_in(field: str) -> Callable[[Fields, Fields], Fields]:
    return lambda value, other: {**value, field: other[field]}


def _put_in(content: Secret[str] | Secret[bytes]) -> Callable[[Fields, Fields], Fields]:
    return lambda value, _: {**value, "certificate": content}


@pytest.mark.parametrize(
    "spoil",
    [
        *(_swap_in(field) for field in sorted(FIELDS)),
        lambda value, _: {**value, "certificate": value["public_key"]},
        lambda value, _: {**value, "public_key": value["certificate"]},
        lambda value, _: {**value, "private_key": value["public_key"]},
        _put_in(Secret("")),
        _put_in(Secret("\x00")),
        _put_in(Secret("\ud800")),
        _put_in(Secret(b"\xff\xfe")),
        _put_in(Secret("ssh-ed25519 !")),
        lambda value, _: {name: content for name, content in value.items() if name != "certificate"},
        lambda value, _: {"": value["certificate"]},
        lambda _, __: {},
    ],
)
def test_takes_no_parts_that_do_not_fit(spoil: Callable[[Fields, Fields], Fields]) -> None:
    options = _options(make_authority())
    spoilt = spoil(_made(options), _made(options))
    with pytest.raises(CredentialRefused):
        from_options(options).verify(spoilt, _run())


def test_no_byte_of_a_certificate_can_be_another() -> None:
    options = _options(make_authority(), force_command="uptime")
    value = _made(options)
    rotator = from_options(options)
    kind, body = str(value["certificate"].reveal()).split()
    raw = base64.b64decode(body)
    generator = random.Random(7)
    for position in generator.sample(range(len(raw)), 150):
        spoilt = bytearray(raw)
        spoilt[position] ^= generator.randrange(1, 256)
        for changed in (spoilt, raw[:position]):
            text = f"{kind} {base64.b64encode(changed).decode()}"
            with pytest.raises(CredentialRefused):
                rotator.verify({**value, "certificate": Secret(text)}, _run())


# --- options ---


@pytest.mark.parametrize(
    "changed",
    [
        {"principals": ""},
        {"principals": None},
        {"principals": ","},
        {"principals": "a,,b"},
        {"principals": "a, b"},
        {"principals": "a,a"},
        {"principals": "a\n"},
        {"principals": "a\x00"},
        {"principals": "*"},
        {"principals": "-oProxyCommand"},
        {"principals": "jos\u00e9"},
        {"principals": "\ud800"},
        {"principals": "x" * 256},
        {"principals": ",".join(f"u{number}" for number in range(257))},
        {"principals": Secret("root")},
        {"kind": None},
        {"kind": "both"},
        {"kind": "host", "principals": "*"},
        {"kind": "host", "principals": "*.com"},
        {"kind": "host", "principals": "db.*.example"},
        {"kind": "host", "principals": "d?.example"},
        {"kind": "host", "principals": "DB.example"},
        {"kind": "host", "extensions": "permit-pty"},
        {"kind": "host", "force-command": "uptime"},
        {"kind": "host", "source-address": "10.0.0.0/8"},
        {"hours": None},
        {"hours": "0"},
        {"hours": "-1"},
        {"hours": "1.5"},
        {"hours": "1", "days": "1"},
        {"hours": "87601"},
        {"hours": None, "days": "3651"},
        {"key-type": "rsa"},
        {"extensions": "permit-everything"},
        {"extensions": "permit-pty,permit-pty"},
        {"force-command": "a\nb"},
        {"force-command": "a\x00b"},
        {"force-command": "\ud800"},
        {"force-command": "\u00e9" * 2_049},
        {"source-address": "10.0.0.1/8"},
        {"source-address": "everywhere"},
        {"source-address": "fe80::1%eth0"},
        {"source-address": "10.0.0.0/8,"},
        {"ca-key": None},
        {"ca-key": "a-key-in-plain-text"},
        {"ca-key": Secret("no key")},
        {"ca-key": Secret("\ud800")},
        {"ca-key": Secret(b"bytes")},
        {"ca-kye": "x"},
    ],
)
def test_refuses_options_that_make_no_sense(changed: dict[str, Any]) -> None:
    options = {**_options(make_authority()), **changed}
    with pytest.raises(InvalidRotation) as caught:
        from_options({name: value for name, value in options.items() if value is not None})
    assert caught.value.code == "invalid-rotation"


def test_refuses_the_key_of_an_authority_with_a_passphrase() -> None:
    pytest.importorskip("bcrypt", reason="needs the package `bcrypt`")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"canary-passphrase"))
    with pytest.raises(InvalidRotation) as caught:
        from_options({**_options(make_authority()), "ca-key": Secret(pem.decode())})
    assert "passphrase" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["localhost", "db-1.example", "*.db.example", "192.0.2.7", "2001:db8::7", "a,b.example"]
)
def test_a_host_is_named_as_clients_call_it(name: str) -> None:
    options = _options(make_authority(), kind="host", principals=name)
    assert _parsed(_made(options)).valid_principals == [each.encode() for each in name.split(",")]


def test_no_error_shows_the_key_of_the_authority_or_the_private_one() -> None:
    authority = make_authority()
    options = _options(authority)
    value = _made(options)
    rotator = from_options(options)
    said = [repr(rotator)]
    for wrong in ({**value, "certificate": Secret("x")}, _made(_options(make_authority()))):
        with pytest.raises(SecurecfgError) as caught:
            rotator.verify(wrong, _run())
        error = caught.value
        said += [str(error), error.hint, repr(error), repr(error.__cause__)]
    shown = "".join(said)
    keys = (authority.private_key, str(value["private_key"].reveal()))
    assert not any(line in shown for key in keys for line in key.splitlines()[1:-1])
