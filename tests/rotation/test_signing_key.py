"""The rotator `signing-key`, and the key sets by which others verify what its keys have signed."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from securecfg import Vault
from securecfg.clock import to_ns
from securecfg.errors import CredentialRefused, InvalidRotation, SecretNotFound
from securecfg.keys import generate_key_file
from securecfg.rotation import Run, open_rotator
from securecfg.rotation.jwks import HMAC_BYTES, public_jwks, read_versions, thumbprint
from securecfg.rotation.private_keys import key_to_pem
from securecfg.rotation.rotators.signing_key import from_options
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import RotatorConformance, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.rotation import Candidate, Fields, Options, Rotator

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AT_ONCE = {"publish-s": "0"}
QUICK = ("ES256", "ES384", "ES512", "EdDSA")


class _Clock:
    def __init__(self) -> None:
        self.when = NOW

    def now_ns(self) -> int:
        return to_ns(self.when)


def _run(current: Fields | None = None, pending: Fields | None = None) -> Run:
    return Run("a1" * 16, NOW, 1.0, current, None, pending)


def _fields(candidate: Candidate) -> Fields:
    assert not isinstance(candidate.value, Secret)
    return candidate.value


def _new(algorithm: str, current: Fields | None = None) -> Fields:
    return _fields(from_options({"algorithm": algorithm, **AT_ONCE}).propose(_run(current)))


def _text(value: Fields, name: str) -> str:
    content = value[name].reveal()
    assert isinstance(content, str)
    return content


def _sign(value: Fields) -> str:
    key = _text(value, "secret" if "secret" in value else "private_key")
    headers = {"kid": _text(value, "kid")}
    return jwt.encode({"sub": "ana"}, key, _text(value, "algorithm"), headers=headers)


@pytest.fixture(scope="module")
def rs256() -> Fields:
    return _new("RS256")


# --- the contract -----------------------------------------------------------------------------------------------------


class _Verifiers:
    """Who verifies tokens, and needs to be told of no key."""

    is_remote = False

    def __init__(self, algorithm: str) -> None:
        self.options: Options = {"algorithm": algorithm, **AT_ONCE}
        self.current = _new(algorithm)

    def accepts(self, value: Fields, /) -> bool:
        if "secret" in value:
            jwt.decode(_sign(value), _text(value, "secret"), [_text(value, "algorithm")])
        else:
            jwt.decode(_sign(value), jwt.PyJWK(public_jwks([value])["keys"][0]))
        return True

    def cut_off(self) -> None:
        """Nothing is reached."""

    def restore(self) -> None:
        """Nothing was reached."""


class TestSigningKey(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["ES256", "EdDSA", "HS256"])
    def target(self, request: pytest.FixtureRequest) -> _Verifiers:
        return _Verifiers(request.param)


def test_is_found_by_its_name() -> None:
    assert open_rotator("signing-key", {}).strategy == "overlapping"


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "none"},
        {"algorithm": "NONE"},
        {"algorithm": "es256"},
        {"algorithm": "ES256K"},
        {"algorithm": ""},
        {"algorithm": Secret("ES256")},
        {"publish-s": "-1"},
        {"publish-s": "86401"},
        {"publish-s": "1.5"},
        {"kid": "mine"},
    ],
)
def test_refuses_options_that_make_no_sense(options: Options) -> None:
    with pytest.raises(InvalidRotation) as caught:
        from_options(options)
    assert caught.value.code == "invalid-rotation"


# --- what is taken for a signing key ----------------------------------------------------------------------------------


def _refusal(value: Fields) -> str:
    with pytest.raises(CredentialRefused) as caught:
        from_options({}).verify(value, _run())
    assert caught.value.__cause__ is None
    with pytest.raises(InvalidRotation):
        public_jwks([value])
    return str(caught.value)


@pytest.mark.parametrize(
    "pem", ["", "canary", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n", "\ud800canary" * 20_000]
)
def test_takes_no_garbage_for_a_key(pem: str) -> None:
    assert "canary" not in _refusal({**_new("ES256"), "private_key": Secret(pem)})


@pytest.mark.parametrize("field", ["private_key", "kid", "algorithm"])
def test_takes_no_key_that_lacks_a_field_or_holds_bytes(field: str) -> None:
    value = _new("ES256")
    _refusal({name: content for name, content in value.items() if name != field})
    _refusal({**value, field: Secret(b"bytes")})
    _refusal({"": Secret("text")})


@pytest.mark.parametrize("algorithm", ["none", "", "ES384", "EdDSA", "RS256", "es256", "ES256K", "HS256\n"])
def test_takes_no_key_for_another_algorithm_than_its_own(algorithm: str) -> None:
    _refusal({**_new("ES256"), "algorithm": Secret(algorithm)})


@pytest.mark.parametrize("algorithm", ["none", "RS256", "ES256", "Ed25519"])
def test_takes_no_key_of_edwards_for_another_algorithm_than_its_own(algorithm: str) -> None:
    assert "not one for its algorithm" in _refusal({**_new("EdDSA"), "algorithm": Secret(algorithm)})


@pytest.mark.parametrize("algorithm", ["none", "RS1", "ES256", "EdDSA", "RSA-OAEP"])
def test_takes_no_rsa_key_for_another_algorithm_than_its_own(algorithm: str, rs256: Fields) -> None:
    assert "not one for its algorithm" in _refusal({**rs256, "algorithm": Secret(algorithm)})


def test_takes_no_private_key_for_the_secret_of_an_hmac() -> None:
    _refusal({**_new("ES256"), "algorithm": Secret("HS256")})


def test_takes_no_kid_that_is_of_another_key() -> None:
    value = _new("ES256")
    for kid in (_text(_new("ES256"), "kid"), "", f"{_text(value, 'kid')}="):
        assert "thumbprint" in _refusal({**value, "kid": Secret(kid)})


def test_takes_no_weak_key() -> None:
    weak = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - refused
    value = {"private_key": key_to_pem(weak), "kid": "x", "algorithm": "RS256"}
    assert "at least 2048 bits" in _refusal({name: Secret(text) for name, text in value.items()})
    koblitz = ec.generate_private_key(ec.SECP256K1())
    value |= {"private_key": key_to_pem(koblitz), "algorithm": "ES256"}
    _refusal({name: Secret(text) for name, text in value.items()})


@pytest.mark.parametrize("algorithm", sorted(HMAC_BYTES))
def test_takes_no_secret_that_is_shorter_than_its_hash(algorithm: str) -> None:
    value = _new(algorithm)
    assert "fewer than" in _refusal({**value, "secret": Secret("x" * (HMAC_BYTES[algorithm] - 1))})
    assert "no name" in _refusal({**value, "kid": Secret("")})


# --- what is made -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [*QUICK, "RS256", *HMAC_BYTES])
def test_makes_a_key_for_each_algorithm(algorithm: str, rs256: Fields) -> None:
    value = rs256 if algorithm == "RS256" else _new(algorithm)
    from_options({}).verify(value, _run())
    own = {"secret"} if algorithm in HMAC_BYTES else {"private_key"}
    assert value.keys() == own | {"kid", "algorithm", "signs_from"}
    if own == {"private_key"}:
        [key] = public_jwks([value])["keys"]
        assert (key["alg"], key["use"], key["kid"]) == (algorithm, "sig", _text(value, "kid"))
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}
        assert jwt.decode(_sign(value), jwt.PyJWK(key)) == {"sub": "ana"}


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
def test_every_rsa_algorithm_takes_the_same_keys(algorithm: str, rs256: Fields) -> None:
    value = {**rs256, "algorithm": Secret(algorithm)}
    assert jwt.decode(_sign(value), jwt.PyJWK(public_jwks([value])["keys"][0])) == {"sub": "ana"}


def test_keys_and_names_are_of_their_own() -> None:
    for algorithm, field in (("HS256", "secret"), ("EdDSA", "private_key")):
        made = [_new(algorithm) for _ in range(30)]
        assert len({_text(value, field) for value in made}) == len({_text(value, "kid") for value in made}) == 30


def test_the_name_of_a_secret_tells_nothing_of_it() -> None:
    one = _new("HS256")
    assert len(_text(one, "kid")) == 22
    assert len(_text(one, "secret")) == 43


def test_leaves_other_fields_alone_and_none_of_another_algorithm_behind() -> None:
    current: Fields = {**_new("HS256"), "issuer": Secret("https://id.shop.internal")}
    value = plain(_new("ES256", current))
    assert value["issuer"] == "https://id.shop.internal"
    assert "secret" not in value
    assert "private_key" not in plain(_new("HS256", _new("ES256")))


def test_replaces_no_value_that_has_no_fields() -> None:
    with pytest.raises(InvalidRotation):
        from_options({}).propose(_run({"": Secret("old")}))


@pytest.mark.parametrize(
    ("members", "name"),
    [
        # RFC 7638, section 3.1
        (
            {
                "kty": "RSA",
                "n": (
                    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX"
                    "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqz"
                    "s8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-"
                    "G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
                ),
                "e": "AQAB",
            },
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        # RFC 8037, appendix A.3
        (
            {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ],
    ids=["rsa", "ed25519"],
)
def test_a_thumbprint_is_that_of_the_standards(members: dict[str, str], name: str) -> None:
    assert thumbprint(members) == name


def test_a_public_key_is_that_of_the_standard() -> None:
    # RFC 8037, appendix A.1 and A.2
    raw = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    pem = key_to_pem(ed25519.Ed25519PrivateKey.from_private_bytes(raw))
    kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    value = {"private_key": Secret(pem), "kid": Secret(kid), "algorithm": Secret("EdDSA")}
    assert public_jwks([value])["keys"][0]["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_coordinates_keep_their_leading_zeros() -> None:
    # A private key whose public x begins with a zero byte, found by trying.
    for number in range(1, 4_000):
        key = ec.derive_private_key(number, ec.SECP256R1())
        if key.public_key().public_numbers().x < 1 << 248:
            break
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    value = {"private_key": Secret(key_to_pem(key)), "algorithm": Secret("ES256")}
    members = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
    value["kid"] = Secret(thumbprint(members))
    [made] = public_jwks([value])["keys"]
    assert (made["x"], made["y"]) == (jwk["x"], jwk["y"])
    assert len(made["x"]) == 43


# --- publishing -------------------------------------------------------------------------------------------------------


def test_an_hmac_is_never_published() -> None:
    with pytest.raises(InvalidRotation):
        public_jwks([_new("HS256")])
    with pytest.raises(InvalidRotation):
        public_jwks([])
    mixed = public_jwks([_new("HS256"), _new("ES256")])
    assert [key["alg"] for key in mixed["keys"]] == ["ES256"]


def test_a_set_has_each_key_once_in_the_order_that_is_given() -> None:
    one, other = _new("ES256"), _new("EdDSA")
    published = public_jwks([one, other, one])
    assert [key["kid"] for key in published["keys"]] == [_text(one, "kid"), _text(other, "kid")]
    assert _text(one, "private_key") not in json.dumps(published)


def test_a_candidate_signs_only_after_it_was_published_for_long_enough() -> None:
    clock = _Clock()
    rotator = from_options({"publish-s": "300"}, clock)
    current = _fields(rotator.propose(_run()))
    pending = _fields(rotator.propose(_run(current)))
    run = _run(current, pending)
    rotator.apply(run)
    clock.when = NOW + timedelta(seconds=299)
    with pytest.raises(CredentialRefused, match="have not had the time"):
        rotator.verify(pending, run)
    rotator.verify(current, run)
    clock.when = NOW + timedelta(seconds=300)
    rotator.verify(pending, run)


@pytest.mark.parametrize("text", ["", "soon", "2026-06-01T12:00:00", "9999-99-99T00:00:00+00:00"])
def test_takes_nothing_for_a_time_that_is_none(text: str) -> None:
    pending = {**_new("ES256"), "signs_from": Secret(text)}
    with pytest.raises(CredentialRefused, match="is no time"):
        from_options({}).verify(pending, _run(None, pending))


def test_a_clock_that_was_set_back_takes_the_current_key_from_nobody() -> None:
    clock = _Clock()
    rotator = from_options({}, clock)
    current = _fields(rotator.propose(_run()))
    clock.when = NOW - timedelta(days=365)
    rotator.verify(current, _run(current))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    generate_key_file(tmp_path / "key")
    with Vault.create(tmp_path / "a.vault", key=f"file:{tmp_path / 'key'}", admin="alice") as vault:
        yield vault


def test_reads_from_a_vault_what_there_is_with_the_current_one_first(vault: Vault) -> None:
    with pytest.raises(SecretNotFound):
        read_versions(vault, "jwt/key")
    versions = [_new("ES256") for _ in range(3)]
    vault.write("jwt/key", versions[0])
    assert [plain(value) for value in read_versions(vault, "jwt/key")] == [plain(versions[0])]
    for value in versions[1:]:
        vault.write("jwt/key", value)
    found = [plain(value) for value in read_versions(vault, "jwt/key")]
    assert found == [plain(versions[2]), plain(versions[1])]
    vault.delete("jwt/key", version=2)
    assert [plain(value) for value in read_versions(vault, "jwt/key")] == [plain(versions[2])]


def test_a_value_without_fields_is_no_signing_key(vault: Vault) -> None:
    vault.write("jwt/key", "text")
    with pytest.raises(InvalidRotation):
        public_jwks(read_versions(vault, "jwt/key"))


class _Issuer:
    """Serves the key set of the versions that have a label, as a service of its own would."""

    def __init__(self) -> None:
        self.labels: dict[str, Fields] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(public_jwks(issuer.labels.values())).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the base class's
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _verify(client: jwt.PyJWKClient, token: str) -> None:
    assert jwt.decode(token, client.get_signing_key_from_jwt(token)) == {"sub": "ana"}


@pytest.mark.parametrize(("before", "after"), [("ES256", "ES256"), ("EdDSA", "EdDSA"), ("RS256", "ES256")])
def test_tokens_verify_before_during_and_after_a_rotation_until_the_old_key_is_retired(
    before: str, after: str, rs256: Fields
) -> None:
    rotator = from_options({"algorithm": after, **AT_ONCE})
    with _Issuer() as issuer:
        old = rs256 if before == "RS256" else _new(before)
        issuer.labels = {"current": old}
        early = _sign(old)
        _verify(jwt.PyJWKClient(issuer.url), early)

        run = _run(old)
        run = run._replace(pending=_fields(rotator.propose(run)))
        new = run.pending
        assert new is not None
        issuer.labels = {"current": old, "pending": new}
        cached = jwt.PyJWKClient(issuer.url)
        rotator.apply(run)
        rotator.verify(new, run)
        _verify(cached, early)
        _verify(cached, _sign(old))

        issuer.labels = {"current": new, "previous": old}
        late = _sign(new)
        # This one has the set from before the swap, and asks for no other.
        _verify(cached, late)
        _verify(cached, early)
        for token in (early, late):
            _verify(jwt.PyJWKClient(issuer.url), token)

        rotator.retire(run._replace(current=new, previous=old, pending=None))
        issuer.labels = {"current": new}
        fresh = jwt.PyJWKClient(issuer.url)
        _verify(fresh, late)
        with pytest.raises(jwt.PyJWKClientError):
            _verify(fresh, early)


def test_a_public_key_verifies_nothing_that_says_hmac() -> None:
    value = _new("ES256")
    jwk = public_jwks([value])["keys"][0]
    forged = jwt.encode({"sub": "eve"}, jwk["x"] * 2, "HS256", headers={"kid": jwk["kid"]})
    with pytest.raises(jwt.InvalidTokenError):
        jwt.decode(forged, jwt.PyJWK(jwk))


def test_tokens_of_hmac_verify_by_the_versions_that_a_verifier_reads(vault: Vault) -> None:
    old, new = _new("HS256"), _new("HS256")
    vault.write("jwt/key", old)
    token = _sign(old)

    def decode() -> dict[str, Any]:
        keys = {_text(value, "kid"): value for value in read_versions(vault, "jwt/key")}
        value = keys[jwt.get_unverified_header(token)["kid"]]
        return jwt.decode(token, _text(value, "secret"), [_text(value, "algorithm")])

    assert decode() == {"sub": "ana"}
    vault.write("jwt/key", new)
    assert decode() == {"sub": "ana"}
    vault.delete("jwt/key", version=1)
    with pytest.raises(KeyError):
        decode()
