"""SoftHSM tokens for tests, made by a process of their own: `python softhsm.py MODULE [rsa]` fills one with keys.

SoftHSM reads its configuration and its list of tokens once in a process; what a test process needs is made before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PIN = "canary-pin-4711"
LABEL = "canary token"
OTHER_LABEL = "other"
TWIN_LABEL = "twin"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
CONFIGURATION = """\
directories.tokendir = {folder}
objectstore.backend = file
log.level = ERROR
slots.mechanisms = {mechanisms}
library.reset_on_fork = {reset}
"""
# Of AES keys this is the value, so that a test can do without the token what the token should have done.
KNOWN_VALUE = bytes(range(32))


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A SoftHSM with some tokens.

    Attributes:
        module: Its library.
        configuration: The file that SOFTHSM2_CONF has to name.
    """

    module: str
    configuration: Path

    def uri(self, key: str, *, token: str = LABEL, pin: str = "pin-source=env:TOKEN_PIN") -> str:
        """Return the URI of a key, given as attributes of the path."""
        label = token.replace(" ", "%20")
        return f"pkcs11:token={label};{key}?module-path={self.module}" + (f"&{pin}" if pin else "")

    def run(self, program: str, **variables: str) -> str:
        """Run a program in a process of its own, which has its own look at the tokens, and return what it prints."""
        environment = {**os.environ, "SOFTHSM2_CONF": str(self.configuration), "TOKEN_PIN": PIN, **variables}
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"
        return done.stdout.strip()


def find_module() -> str:
    """Return the path of SoftHSM's library, or skip the test."""
    pytest.importorskip("pkcs11", reason="needs the package `python-pkcs11`")
    if shutil.which("softhsm2-util") is None:
        pytest.skip("needs the program `softhsm2-util`")
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None:
        pytest.skip("needs SoftHSM's library `libsofthsm2.so`")
    return module


def make_softhsm(folder: Path, *, mechanisms: str = "ALL", reset_on_fork: bool = False, rsa: bool = False) -> SoftHsm:
    """Make a SoftHSM with a token that is full of keys, one that is empty, and two that share a label.

    RSA keys take their time and are made where they are asked for.
    """
    module = find_module()
    (folder / "tokens").mkdir(parents=True)
    hsm = SoftHsm(module, folder / "softhsm2.conf")
    hsm.configuration.write_text(
        CONFIGURATION.format(folder=folder / "tokens", mechanisms="ALL", reset=str(reset_on_fork).lower())
    )
    environment = {**os.environ, "SOFTHSM2_CONF": str(hsm.configuration)}
    for label in (LABEL, OTHER_LABEL, TWIN_LABEL, TWIN_LABEL):
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    subprocess.run([sys.executable, __file__, module, *(["rsa"] if rsa else [])], env=environment, check=True)
    hsm.configuration.write_text(
        CONFIGURATION.format(folder=folder / "tokens", mechanisms=mechanisms, reset=str(reset_on_fork).lower())
    )
    return hsm


def fill(module: str, *more: str) -> None:
    """Make keys of each kind, and some that cannot be used."""
    import pkcs11
    from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass

    both = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
    wraps = MechanismFlag.WRAP | MechanismFlag.UNWRAP
    with pkcs11.lib(module).get_token(token_label=LABEL).open(rw=True, user_pin=PIN) as session:

        def aes(name: str, bits: int, capabilities: MechanismFlag, number: int) -> None:
            session.generate_key(
                KeyType.AES,
                bits,
                label=name,
                id=bytes((number,)),
                store=True,
                capabilities=capabilities,
                template={Attribute.EXTRACTABLE: False},
            )

        aes("aes", 256, both, 1)
        aes("another aes", 256, both, 2)
        aes("aes 128", 128, both, 3)
        aes("wraps", 256, wraps, 4)
        aes("another that wraps", 256, wraps, 5)
        aes("only encrypts", 256, MechanismFlag.ENCRYPT, 6)
        aes("double", 256, both, 7)
        aes("double", 256, both, 8)
        known = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: "known",
            Attribute.VALUE: KNOWN_VALUE,
            Attribute.TOKEN: True,
            Attribute.SENSITIVE: False,
            Attribute.EXTRACTABLE: True,
            **dict.fromkeys((Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP), True),
        }
        session.create_object(known)
        sizes = {"rsa": 2048, "another rsa": 2048, "rsa 4096": 4096, "rsa 1024": 1024}
        for name, bits in sizes.items() if "rsa" in more else ():
            session.generate_keypair(KeyType.RSA, bits, label=name, id=name.encode(), store=True, capabilities=both)


if __name__ == "__main__":
    fill(*sys.argv[1:])
