"""TLS certificates of hosts, from an internal CA whose key and certificate are secrets of the vault.

Nobody is told of a new one: who serves with it loads it, and who connects trusts the CA. No list of revoked ones is
kept, so an old certificate is good until it ends.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from securecfg.clock import SystemClock, to_datetime
from securecfg.errors import CredentialRefused, InvalidRotation
from securecfg.rotation.certificates import (
    BACKDATED,
    check_hosts,
    check_leaf,
    check_path,
    check_times,
    hosts_of,
    issue,
    load_certificate,
    load_certificates,
    without_root,
)
from securecfg.rotation.host_names import parse_allowed, parse_hosts
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.private_keys import RSA_BITS, Unfit, key_to_pem, load_key
from securecfg.rotation.values import is_current, text_of
from securecfg.secret import Secret
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from securecfg.clock import Clock
    from securecfg.rotation.certificates import Path
    from securecfg.rotation.host_names import Host
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.private_keys import PrivateKey

KEY_TYPES = ("ecdsa-p256", "ed25519", "rsa-3072")
USAGES: Mapping[str, tuple[x509.ObjectIdentifier, ...]] = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "server,client": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}
DAYS_MAX = 825
_LEFT_MIN = timedelta(hours=1)
"""What a CA must have left: what it issues ends with it, and would be replaced ever more often as that comes near."""

_PEM_FIELDS = ("private_key", "certificate", "chain")


class Order(NamedTuple):
    """What a certificate is to be like.

    Attributes:
        hosts: Which names it is for.
        days: How long it is good.
        key_type: One of `KEY_TYPES`.
        usages: What it is for.
    """

    hosts: tuple[Host, ...]
    days: int
    key_type: str
    usages: tuple[x509.ObjectIdentifier, ...]


class TlsRotator:
    """Issues certificates.

    Args:
        issuer_key: The key of the CA.
        path: The certificate of the CA, who issued it, and so on; the last one is what clients trust.
        order: What they are to be like.
        clock: When it is.
    """

    strategy = Strategy.LEASED
    target = "tls"
    identity: frozenset[str] = frozenset()

    def __init__(self, issuer_key: PrivateKey, path: Path, order: Order, clock: Clock) -> None:
        """Issue nothing yet."""
        self._issuer_key = issuer_key
        self._path = path
        self._order = order
        self._clock = clock

    def propose(self, run: Run, /) -> Candidate:
        """Return a new key with its certificate, and the other fields as they are.

        Raises:
            InvalidRotation: A certificate of the CA is not valid now and for an hour, or the secret has no fields.
        """
        if run.current is not None and "" in run.current:
            message = "the secret has no fields, and a certificate is several"
            raise InvalidRotation(message, hint="rotate it at another path")
        now = self._now()
        try:
            self._check_may_issue(now)
        except Unfit as problem:
            message = f"the CA can issue nothing: {problem}"
            raise InvalidRotation(message, hint="renew its certificate") from None
        begins = max(now - BACKDATED, *(each.not_valid_before_utc for each in self._path))
        ends = min(now + timedelta(days=self._order.days), self._ends())
        key = _new_key(self._order.key_type)
        authority = (self._issuer_key, self._path[0])
        certificate = issue(key, authority, self._order.hosts, self._order.usages, (begins, ends))
        made = {
            "private_key": key_to_pem(key),
            "certificate": _to_pem((certificate,)),
            "chain": _to_pem(without_root(self._path)),
            "serial": f"{certificate.serial_number:040x}",
        }
        return Candidate(
            {**(run.current or {}), **{name: Secret(text) for name, text in made.items()}},
            certificate.not_valid_after_utc,
        )

    def apply(self, run: Run, /) -> None:
        """Tell nobody."""

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check what a client would: that it leads to the CA, is for these names, is valid now, and fits its key.

        What is current may have ended, and is left as it is: a run over it could else be neither ended nor taken back.

        Raises:
            CredentialRefused: It does not, is not, or there is none.
        """
        if is_current(value, run):
            return
        try:
            self._check(value)
        except (Unfit, InvalidRotation) as problem:
            raise CredentialRefused(str(problem)) from None

    def retire(self, run: Run, /) -> None:
        """Tell nobody: it ends by itself."""

    def check(self, run: Run, /) -> Sequence[str]:
        """Say what is wrong, or soon will be, with the certificate of the CA."""
        del run
        now = self._now()
        try:
            self._check_may_issue(now)
        except Unfit as problem:
            return [f"the CA can issue nothing: {problem}"]
        if self._ends() >= now + timedelta(days=self._order.days):
            return []
        ends = f"{self._ends():%Y-%m-%d %H:%M} UTC"
        return [f"a certificate of the CA ends at {ends}, sooner than a new one would after {self._order.days} days"]

    def _check_may_issue(self, now: datetime) -> None:
        check_times(self._path, now)
        if self._ends() < now + _LEFT_MIN:
            message = f"a certificate ends at {self._ends():%Y-%m-%d %H:%M} UTC, within the hour"
            raise Unfit(message)

    def _check(self, value: Fields) -> None:
        key_pem, certificate_pem, chain_pem = (text_of(value, name).reveal() for name in _PEM_FIELDS)
        leaf, key = load_certificate(certificate_pem), load_key(key_pem)
        path = load_certificates(chain_pem)
        if path[-1:] != self._path[-1:]:
            path += self._path[-1:]
        check_leaf(leaf, path[0], self._order.usages)
        check_path(path, self._order.usages)
        names = hosts_of(leaf)
        check_hosts(path, names)
        check_times((leaf, *path), self._now())
        if leaf.public_key() != key.public_key():
            message = "the certificate is for another key"
            raise Unfit(message)
        if not names >= set(self._order.hosts):
            message = "the certificate lacks a name that it is to be for"
            raise Unfit(message)

    def _ends(self) -> datetime:
        return min(each.not_valid_after_utc for each in self._path)

    def _now(self) -> datetime:
        return to_datetime(self._clock.now_ns()).replace(microsecond=0)


def from_options(options: Options, clock: Clock | None = None) -> TlsRotator:
    """Return the rotator `tls`.

    Args:
        options: What it is told.
        clock: When it is; None for the system's.

    Raises:
        InvalidRotation: The options make no sense, or the CA may not issue such certificates.
    """
    given = GivenOptions("tls", options)
    pems = {name: given.secret(name) for name in ("ca-key", "ca-certificate", "ca-chain")}
    usages = USAGES[given.choice("usage", tuple(USAGES), "server")]
    days = given.number("days", 30, 1, DAYS_MAX)
    order = Order(parse_hosts(given.text("names", "")), days, given.choice("key-type", KEY_TYPES, KEY_TYPES[0]), usages)
    allowed = given.text("allowed-names", "")
    given.finish()
    if "allowed-names" in options and not all(map(parse_allowed(allowed).permits, order.hosts)):
        message = "one of the names lies under none of `allowed-names`"
        raise InvalidRotation(message)
    for name in ("ca-key", "ca-certificate"):
        if pems[name] is None:
            message = f"the option `{name}` of the rotator `tls` is needed"
            raise InvalidRotation(message, hint="it is a reference such as `${secret:ca/internal#key}`")
    key_pem, certificate_pem, chain_pem = ("" if pem is None else pem.reveal() for pem in pems.values())
    try:
        key, path = load_key(key_pem), (load_certificate(certificate_pem), *load_certificates(chain_pem))
        check_path(path, usages)
        check_hosts(path, order.hosts)
    except Unfit as problem:
        message = f"the rotator `tls` cannot use this CA: {problem}"
        raise InvalidRotation(message) from None
    if key.public_key() != path[0].public_key():
        message = "the option `ca-key` of the rotator `tls` is not the key of `ca-certificate`"
        raise InvalidRotation(message)
    return TlsRotator(key, path, order, clock or SystemClock())


def _new_key(key_type: str) -> PrivateKey:
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "rsa-3072":
        return rsa.generate_private_key(65_537, RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _to_pem(certificates: Path) -> str:
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)
