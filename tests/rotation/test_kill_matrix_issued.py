"""What is issued or made, and told to nobody, cut off wherever a rotation can be: certificates and signing keys."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from securecfg.clock import to_datetime
from securecfg.rotation import Run
from securecfg.rotation.jwks import public_jwks
from securecfg.rotation.rotators import signing_key, ssh, tls
from securecfg.rotation.values import text_of
from securecfg.secret import Secret
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix, SimulatedTime
from tests.rotation.authority import RIGHT, new_ca
from tests.rotation.sshd import USER, running_sshd
from tests.rotation.targets import TOKEN, Nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.rotation import Fields, Options, Rotator
    from tests.rotation.sshd import Sshd

_LONG = timedelta(days=800)


def _believers(rotator: Rotator, options: Options, accepts: Callable[[Fields], bool], now_ns: int) -> Nobody:
    """Return who believes an authority or a key, and need not be told of what is new."""
    value = rotator.propose(Run(TOKEN, to_datetime(now_ns), 1.0, {"team": Secret("payments-team")})).value
    assert not isinstance(value, Secret)
    return Nobody(options, value, accepts)


class TestTls(RotationKillMatrix):
    sample = 2

    def make(self, options: Options) -> Rotator:
        return tls.from_options(options, self.time)

    @pytest.fixture
    def target(self) -> Nobody:
        begins = to_datetime(self.time.now_ns())
        root = new_ca(wrong=RIGHT._replace(begins=begins, ends=begins + _LONG))
        self._store = Store([root.certificate])
        options = root.options(days="90")
        return _believers(self.make(options), options, self._accepts, self.time.now_ns())

    def _accepts(self, value: Fields) -> bool:
        chain = text_of(value, "certificate").reveal() + text_of(value, "chain").reveal()
        leaf, *others = x509.load_pem_x509_certificates(chain.encode())
        verifier = PolicyBuilder().store(self._store).time(to_datetime(self.time.now_ns()))
        try:
            verifier.build_server_verifier(x509.DNSName("a.shop.internal")).verify(leaf, others)
        except VerificationError:
            return False
        return True


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with running_sshd() as server:
        yield server


class TestSsh(RotationKillMatrix):
    sample = 1

    @cached_property
    def time(self) -> SimulatedTime:
        """Begins now: the server goes by the clock of the machine, and so does who issues."""
        return SimulatedTime(time.time_ns())

    def make(self, options: Options) -> Rotator:
        return ssh.from_options(options)

    @pytest.fixture
    def target(self, sshd: Sshd) -> Nobody:
        options: Options = {
            "ca-key": Secret(sshd.authority.private_key),
            "kind": "user",
            "principals": USER,
            "days": "800",
        }
        return _believers(self.make(options), options, sshd.lets_in, self.time.now_ns())


class TestSigningKey(RotationKillMatrix):
    sample = 2

    def make(self, options: Options) -> Rotator:
        return signing_key.from_options(options, self.time)

    @pytest.fixture(params=["ES256", "HS256"])
    def target(self, request: pytest.FixtureRequest) -> Nobody:
        options: Options = {"algorithm": request.param, "publish-s": "40"}
        return _believers(self.make(options), options, _can_sign, self.time.now_ns())


def _can_sign(value: Fields) -> bool:
    """Return whether what is signed with a key is verified with what is published of it."""
    key = text_of(value, "secret" if "secret" in value else "private_key").reveal()
    algorithm, kid = (text_of(value, name).reveal() for name in ("algorithm", "kid"))
    signed = jwt.encode({"sub": "ana"}, key, algorithm, headers={"kid": kid})
    if "secret" in value:
        jwt.decode(signed, key, [algorithm])
    else:
        jwt.decode(signed, jwt.PyJWK(public_jwks([value])["keys"][0]))
    return True
