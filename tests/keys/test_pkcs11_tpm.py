"""`pkcs11:` against a TPM: another module, which makes no AES keys and knows RSA-OAEP with SHA-256.

What SoftHSM shows about tampering and forks is not repeated: swtpm switches itself off when a ciphertext is altered,
and the module keeps a connection to a message bus, which a forked child cannot share.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.keys.tpm import LABEL, tpm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from securecfg.errors import KeyMissing, PinIncorrect, TokenMissing, WrongKey
from securecfg.keys import WrapContext, open_provider, parse_params
module, label = sys.argv[1:]
context = WrapContext(bytes(16), bytes(16))

def key(name, token=label, pin="TOKEN_PIN"):
    return open_provider(f"pkcs11:token={token};object={name}?module-path={module}&pin-source=env:{pin}")

def raised(call):
    try:
        call()
    except (KeyMissing, PinIncorrect, TokenMissing, WrongKey) as error:
        return error.code
"""
FIRST = (
    PROGRAM
    + """
print(raised(lambda: key("shop").wrap(bytes(32), context)))
print(raised(lambda: key("shop", token="no").wrap(bytes(32), context)))
print(key("shop").create_missing(), key("shop").create_missing())
provider = key("shop")
wrapped = provider.wrap(bytes(32), context)
assert provider.unwrap(wrapped, context) == bytes(32)
print(parse_params(wrapped)[0], len(parse_params(wrapped)), provider.describe()["key"])
print(raised(lambda: provider.unwrap(wrapped, WrapContext(bytes(16), b"x" * 16))))
print(wrapped.hex())
"""
)
SECOND = (
    PROGRAM
    + """
print(raised(lambda: key("shop", pin="WRONG_PIN").wrap(bytes(32), context)))
print(key("shop").unwrap(bytes.fromhex(sys.stdin.read()), context) == bytes(32))
"""
)


@pytest.fixture(scope="module")
def token(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    pytest.importorskip("pkcs11", reason="needs the package `python-pkcs11`")
    with tpm(tmp_path_factory.mktemp("tpm"), program) as token:
        yield token


def run(token: tuple[str, Mapping[str, str]], program: str, given: str = "") -> list[str]:
    module, variables = token
    environment = {**os.environ, **variables, "WRONG_PIN": "canary-wrong"}
    done = subprocess.run(
        [sys.executable, "-c", program, module, LABEL],
        cwd=ROOT,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout
    return done.stdout.splitlines()


def test_makes_an_rsa_key_and_wraps_with_what_the_tpm_knows(token: tuple[str, Mapping[str, str]]) -> None:
    no_key, no_token, made, wrapped_with, elsewhere, wrapped = run(token, FIRST)
    assert (no_key, no_token) == ("key-missing", "token-missing")
    assert made == "True False"
    # RSA-OAEP with SHA-256 is mechanism 5; SoftHSM does not have it.
    assert wrapped_with == "5 385 RSA-3072, cannot be exported"
    assert elsewhere == "wrong-key"
    assert run(token, SECOND, wrapped) == ["pin-incorrect", "True"]
