"""Write the vectors of single kinds of slots: `python -m tests.vectors.generate_keys`. See `generate`."""

from __future__ import annotations

import hashlib
import hmac
import json
import unicodedata
from base64 import urlsafe_b64encode
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.vectors.generate import (
    FOLDER,
    OTHER_VAULT,
    ROOT,
    SLOT_ID,
    VAULT,
    Vector,
    expand,
    fixed,
    flip,
    sealed,
    slot_context,
    slot_row,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# --- 4.10 shares ------------------------------------------------------------------------------------------------------

SET_ID = fixed("set", 8)
SHARED = fixed("shared key", 32)


def times(a: int, b: int) -> int:
    """The product of two bytes, as polynomials over two elements: long multiplication, then long division."""
    product = 0
    for place in range(8):
        product ^= (a << place) * (b >> place & 1)
    for place in range(14, 7, -1):
        product ^= (0x11B << place - 8) * (product >> place & 1)
    return product


def raw_share(x: int, threshold: int = 3, secret: bytes = SHARED) -> bytes:
    """Byte by byte and power by power, as the sentence of the format has it."""
    values = bytearray()
    for place, byte in enumerate(secret):
        power, value = 1, byte
        for degree in range(1, threshold):
            power = times(power, x)
            value ^= times(power, fixed(f"coefficient {degree}", 32)[place])
        values.append(value)
    return bytes(values) + bytes((x,))


def share_text(number: int, **changes: Any) -> str:  # noqa: ANN401 - parts of a text
    parts: dict[str, Any] = {
        "version": 1,
        "set_id": SET_ID,
        "threshold": 3,
        "total": 5,
        "x": number,
        "raw": raw_share(number),
    } | changes
    raw = urlsafe_b64encode(parts["raw"]).decode().rstrip("=")
    front = f"SECURECFG-SHARE-{parts['version']}-{parts['set_id'].hex()}-{parts['threshold']}of{parts['total']}"
    text = f"{front}-{parts['x']}-{raw}"
    return f"{text}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def share_vectors() -> list[Vector]:
    good_params = b"\x03\x05" + SET_ID

    def row(params: bytes = good_params, kek: bytes = SHARED, **changes: Any) -> bytes:  # noqa: ANN401 - parts of a context
        return slot_row(10, params, *sealed(kek, slot_context(10, params, **changes)))

    good = row()
    shares = [share_text(x) for x in range(1, 6)]
    own = ROOT.hex()

    def vector(name: str, result: str, given: Sequence[str], slot: bytes = good, vault_id: bytes = VAULT) -> Vector:
        opened = {"opens_to": own} if result == "valid" else {}
        return {
            "name": name,
            "result": result,
            "row": slot.hex(),
            "vault_id": vault_id.hex(),
            "shares": given,
            **opened,
        }

    def refused(name: str, wrong: str) -> Vector:
        return vector(name, "share-refused", [shares[0], wrong, shares[2]])

    second = shares[1]
    body, check = second[:-9], second[-8:]
    return [
        vector("the first three", "valid", shares[:3]),
        vector("the last three, in another order", "valid", [shares[4], shares[2], shares[3]]),
        vector("all five", "valid", shares),
        vector("three with an end of line", "valid", [f"{share}\n" for share in shares[:3]]),
        vector("two of three", "share-refused", shares[:2]),
        vector("none", "share-refused", []),
        vector("one share twice", "share-refused", [shares[0], shares[0], shares[2]]),
        vector("one share twice beyond the threshold", "share-refused", [*shares[:3], shares[1]]),
        vector("a share of another set", "share-refused", [*shares[:2], share_text(3, set_id=bytes(8))]),
        vector("a share of another threshold", "share-refused", [*shares[:2], share_text(3, threshold=2)]),
        vector("a share of another total", "share-refused", [*shares[:2], share_text(3, total=6)]),
        vector(
            "a fourth that is not on the polynomial",
            "share-refused",
            [*shares[:3], share_text(4, raw=flip(raw_share(4), 7))],
        ),
        refused("a wrong check", f"{body}-{check[:-1]}{'0' if check[-1] != '0' else '1'}"),
        refused("a check in upper case", f"{body}-{check.upper()}"),
        refused(
            "another raw share under the check of this one", f"{share_text(2, raw=flip(raw_share(2), 0))[:-8]}{check}"
        ),
        refused("another version", share_text(2, version=2)),
        refused("a set id in upper case", share_text(2).replace(SET_ID.hex(), SET_ID.hex().upper())),
        refused("an x that is not the raw share's", share_text(2, x=4)),
        refused("an x of 0", share_text(0, raw=raw_share(0))),
        refused("an x above the total", share_text(6)),
        refused("an x with a zero in front", share_text(2, x="02")),
        refused("a threshold of 1", share_text(2, threshold=1)),
        refused("a threshold above the total", share_text(2, threshold=6)),
        refused("a threshold with a zero in front", share_text(2, threshold="03")),
        refused("a total of 256", share_text(2, total=256)),
        refused("a raw share that is a byte short", share_text(2, raw=raw_share(2)[1:])),
        refused("a raw share that is a byte long", share_text(2, raw=b"\x00" + raw_share(2))),
        refused("a space in front", f" {second}"),
        refused("two ends of line", f"{second}\n\n"),
        refused("no text", ""),
        vector("sealed under another key", "wrong-key", shares[:3], row(kek=ROOT)),
        vector("a slot of another set", "wrong-key", shares[:3], row(b"\x03\x05" + bytes(8))),
        vector("a slot of another threshold", "wrong-key", shares[:3], row(b"\x02\x05" + SET_ID)),
        vector("a slot of another total", "wrong-key", shares[:3], row(b"\x03\x06" + SET_ID)),
        vector("nine bytes of parameters", "wrong-key", shares[:3], row(good_params[:-1])),
        vector("eleven bytes of parameters", "wrong-key", shares[:3], row(good_params + b"\x00")),
        vector("another vault", "wrong-key", shares[:3], good, OTHER_VAULT),
        vector("sealed for another slot", "wrong-key", shares[:3], row(slot_id=bytes(16))),
        vector(
            "sealed for another kind",
            "wrong-key",
            shares[:3],
            slot_row(10, good_params, *sealed(SHARED, slot_context(2, good_params))),
        ),
    ]


# --- 4.11 identities --------------------------------------------------------------------------------------------------

SEED = fixed("identity seed", 32)
OTHER_SEED = fixed("other identity seed", 32)
SEALED_KEK = fixed("identity kek", 32)
PROTECTING = fixed("key that protects", 32)
MESSAGES = dict(
    line.split(": ") for line in (FOLDER / "hpke-messages.txt").read_text().splitlines() if not line.startswith("#")
)


def public_key(seed: bytes) -> bytes:
    keys = expand(seed, "securecfg/1/identity", b"", 128)
    halves = (
        MLKEM768PrivateKey.from_seed_bytes(keys[:64]).public_key(),
        X25519PrivateKey.from_private_bytes(keys[64:96]).public_key(),
        Ed25519PrivateKey.from_private_bytes(keys[96:]).public_key(),
    )
    return b"".join(half.public_bytes_raw() for half in halves)


def fingerprint_of(name: str, public: bytes) -> bytes:
    told = b"securecfg/1/identity-id\x00" + bytes((len(name),)) + name.encode() + public
    return hashlib.sha256(told).digest()[:16]


def base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


def public_line(**changes: Any) -> str:  # noqa: ANN401 - parts of a line
    parts: dict[str, Any] = {"version": 1, "name": "svc:web", "public": public_key(SEED)} | changes
    checked = parts.get("fingerprint", fingerprint_of(parts["name"], parts["public"]).hex())
    return f"SECURECFG-IDENTITY-{parts['version']} {parts['name']} {base64url(parts['public'])} {checked}\n"


def private_line(front: str, **changes: Any) -> str:  # noqa: ANN401 - parts of a line
    parts: dict[str, Any] = {"version": 1, "protection": "none", "content": SEED} | changes
    text = f"{front}SECURECFG-IDENTITY-KEY-{parts['version']} {parts['protection']} {base64url(parts['content'])}"
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}\n"


def protected(seed: bytes = SEED, kind: int = 2, vault_id: bytes | None = None) -> bytes:
    """The slot row of a key file's key, which holds a seed."""
    vault_id = vault_id or fingerprint_of("svc:web", public_key(SEED))
    return slot_row(kind, b"", *sealed(PROTECTING, slot_context(kind, b"", vault_id=vault_id), content=seed))


def signing_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(expand(seed, "securecfg/1/identity", b"", 128)[96:])


def previous_line(former: bytes, successor: bytes, signer: bytes | None = None, **changes: Any) -> str:  # noqa: ANN401 - parts of a line
    """The statement of the key pair of a seed that the one of another seed came after it."""
    parts: dict[str, Any] = {
        "version": 1,
        "label": b"securecfg/1/identity-next\x00",
        "name": "svc:web",
        "public": public_key(former),
    } | changes
    name = parts["name"].encode()
    told = parts["label"] + bytes((len(name),)) + name + public_key(former) + public_key(successor)
    signature = parts.get("signature", signing_key(signer or former).sign(told))
    accepted = parts.get("acceptance", signing_key(parts.get("acceptor", successor)).sign(told))
    fields = " ".join(map(base64url, (parts["public"], signature, accepted)))
    return f"SECURECFG-IDENTITY-PREVIOUS-{parts['version']} {fields}\n"


PROTECTED = "file:/keys/web%20identity.key"


def identity_vectors() -> list[Vector]:
    public = public_line()
    good = private_line(public)
    shown = {"principal": "svc:web", "fingerprint": fingerprint_of("svc:web", public_key(SEED)).hex()}

    def vector(name: str, result: str, content: str, **expected: object) -> Vector:
        opened = shown | expected if result == "valid" else {}
        return {"name": name, "result": result, "content": content, **opened}

    def refused(name: str, content: str, result: str = "key-provider-refused") -> Vector:
        return vector(name, result, content)

    words = good.split(" ")
    seeds = [fixed(f"former identity seed {number}", 32) for number in range(1, 10)]
    chain = [SEED, *seeds]
    links = [previous_line(former, successor) for successor, former in pairwise(chain)]
    first, second = links[:2]
    looping = first + previous_line(SEED, seeds[0])
    return [
        vector("the public half, after one key pair", "valid", public + first, protection=None),
        vector("the public half, after eight key pairs", "valid", public + "".join(links[:8]), protection=None),
        vector("both halves, after two key pairs", "valid", private_line(public + first + second), protection="none"),
        refused("nine former key pairs", public + "".join(links)),
        refused("former key pairs in another order", public + second + first),
        refused("a former key pair that is missing", public + second),
        refused("a former key pair twice", public + first + first),
        refused("the key pair of today among the former ones", public + looping),
        refused("signed by the new key pair", public + previous_line(seeds[0], SEED, SEED)),
        refused("accepted by a stranger", public + previous_line(seeds[0], SEED, acceptor=OTHER_SEED)),
        refused("accepted by the former key pair", public + previous_line(seeds[0], SEED, acceptor=seeds[0])),
        refused("an acceptance of zeros", public + previous_line(seeds[0], SEED, acceptance=bytes(64))),
        refused("an acceptance that is a byte short", public + previous_line(seeds[0], SEED, acceptance=bytes(63))),
        refused("no acceptance", public + previous_line(seeds[0], SEED).rpartition(" ")[0] + "\n"),
        refused("accepted for another name", public + previous_line(seeds[0], SEED, name="svc:wed")),
        refused("signed by a stranger", public + previous_line(seeds[0], SEED, OTHER_SEED)),
        refused("signed for another key pair", public + previous_line(seeds[0], OTHER_SEED)),
        refused("signed for another name", public + previous_line(seeds[0], SEED, name="svc:wed")),
        refused(
            "signed under another label", public + previous_line(seeds[0], SEED, label=b"securecfg/1/identity-id\x00")
        ),
        refused("another version of the line of a former key pair", public + previous_line(seeds[0], SEED, version=2)),
        refused(
            "a former public key that another took the place of",
            public + previous_line(seeds[0], SEED, public=public_key(seeds[1])),
        ),
        refused(
            "a former public key that is a byte short",
            public + previous_line(seeds[0], SEED, public=public_key(seeds[0])[1:]),
        ),
        refused("a signature that is a byte short", public + previous_line(seeds[0], SEED, signature=bytes(63))),
        refused("a signature of zeros", public + previous_line(seeds[0], SEED, signature=bytes(64))),
        refused("a former key pair after the private half", good + first),
        refused("a former key pair alone", first),
        refused("a former key pair that the check does not cover", public + first + good[len(public) :]),
        vector("the public half", "valid", public, protection=None),
        vector("both halves", "valid", good, protection="none"),
        vector(
            "a private half under a key file",
            "valid",
            private_line(public, protection=PROTECTED, content=protected()),
            protection="file:/keys/web identity.key",
        ),
        vector(
            "a private half under a token whose library the system knows",
            "valid",
            private_line(public, protection="pkcs11:object=x?module-name=hsm", content=protected()),
            protection="pkcs11:object=x?module-name=hsm",
        ),
        refused("nothing", ""),
        refused("no end of line", public[:-1]),
        refused("no end of the second line", good[:-1]),
        refused("two ends of line", public + "\n"),
        refused("a third line", good + public),
        refused("the second line alone", good[len(public) :]),
        refused("a carriage return", public[:-1] + "\r\n"),
        refused("another version", public_line(version=2)),
        refused("another version of the second line", private_line(public, version=2)),
        refused("two spaces", public.replace(" svc", "  svc")),
        refused("a name with a space", public_line(name="svc: web")),
        refused("a name that is not ASCII", public_line(name="svc:wéb")),
        refused("no name", public_line(name="")),
        refused("a fingerprint of another name", public.replace("svc:web", "svc:wed")),
        refused("a fingerprint of another key", public_line(fingerprint=fingerprint_of("svc:web", b"").hex())),
        refused("a fingerprint in upper case", public_line(fingerprint=shown["fingerprint"].upper())),
        refused("a public key that is a byte short", public_line(public=public_key(SEED)[:-1])),
        refused("a public key that is a byte long", public_line(public=public_key(SEED) + b"\x00")),
        refused("a check of another text", good.replace(words[-1], "00000000\n")),
        refused("a seed of another identity", private_line(public, content=OTHER_SEED)),
        refused("a seed that is a byte short", private_line(public, content=SEED[:-1])),
        refused("a seed that is a byte long", private_line(public, content=SEED + b"\x00")),
        refused("no content", private_line(public, content=b"")),
        refused("a protection that is escaped for nothing", private_line(public, protection="%6Eone")),
        refused("a protection escaped in lower case", private_line(public, protection=PROTECTED.replace("%20", "%2f"))),
        refused("a protection that is not UTF-8", private_line(public, protection="file:%FF")),
        refused(
            "a protection that starts a program",
            private_line(public, protection="command:/bin/true", content=protected()),
            "invalid-key-uri",
        ),
        refused(
            "a protection that loads a library",
            private_line(public, protection="pkcs11:object=x?pin-source=env:A&module-path=/x.so", content=protected()),
            "invalid-key-uri",
        ),
        refused(
            "a protection that is an identity",
            private_line(public, protection="identity:/keys/other", content=protected()),
            "invalid-key-uri",
        ),
    ]


def identity_slot_vectors() -> list[Vector]:
    public = public_line()
    own = private_line(public)
    good = bytes.fromhex(MESSAGES["good"])

    def row(params: bytes = good, kek: bytes = SEALED_KEK, kind: int = 11) -> bytes:
        return slot_row(11, params, *sealed(kek, slot_context(kind, params)))

    def vector(name: str, result: str, slot: bytes, file: str = own, vault_id: bytes = VAULT) -> Vector:
        opened = {"opens_to": ROOT.hex()} if result == "valid" else {}
        return {"name": name, "result": result, "row": slot.hex(), "vault_id": vault_id.hex(), "file": file, **opened}

    def under(seed: bytes = SEED, **changes: Any) -> str:  # noqa: ANN401 - parts of a slot
        return private_line(public, protection="file:KEY", content=protected(seed, **changes))

    messages = [
        vector(f"a message for {name}", "wrong-key", row(bytes.fromhex(message)))
        for name, message in MESSAGES.items()
        if name.startswith("another")
    ]
    return [
        vector("a private half that lies open", "valid", row()),
        vector("a private half under a key file", "valid", row(), under()),
        *messages,
        vector("a message without its label", "wrong-key", row(bytes.fromhex(MESSAGES["no label"]))),
        vector("a message of 31 bytes", "wrong-key", row(bytes.fromhex(MESSAGES["a key of 31 bytes"]))),
        vector("a message of 33 bytes", "wrong-key", row(bytes.fromhex(MESSAGES["a key of 33 bytes"]))),
        vector("an altered ML-KEM ciphertext", "wrong-key", row(flip(good, 5))),
        vector("an altered X25519 key", "wrong-key", row(flip(good, 1_100))),
        vector("an altered tag", "wrong-key", row(flip(good, -1))),
        vector("no message", "wrong-key", row(b"")),
        vector("sealed under another key", "wrong-key", row(kek=ROOT)),
        vector("sealed for another kind", "wrong-key", row(kind=10)),
        vector("another vault", "wrong-key", row(), own, OTHER_VAULT),
        vector(
            "another identity",
            "wrong-key",
            row(),
            private_line(public_line(public=public_key(OTHER_SEED)), content=OTHER_SEED),
        ),
        vector("the public half only", "key-provider-refused", row(), public),
        vector("another seed under the key file", "key-provider-refused", row(), under(OTHER_SEED)),
        vector("protected for another identity", "wrong-key", row(), under(vault_id=bytes(16))),
        vector("protected by another kind of key", "key-provider-refused", row(), under(kind=3)),
        vector(
            "protected by what is no slot",
            "key-provider-refused",
            row(),
            private_line(public, protection="file:KEY", content=protected()[:-1]),
        ),
    ]


# --- 4.13 passphrase and key file -------------------------------------------------------------------------------------

PHRASE = "corr\u00e9ct horse"
FILE_KEY = fixed("key file beside a passphrase", 32)
CHEAP = fixed("salt of both", 16) + bytes((0, 0, 1, 0, 1, 1))


def both_vectors() -> list[Vector]:
    def argon2id(phrase: str = PHRASE) -> bytes:
        return Argon2id(salt=CHEAP[:16], length=32, iterations=1, lanes=1, memory_cost=256).derive(phrase.encode())

    def kek_of(stretched: bytes, file_key: bytes, label: str = "securecfg/1/both") -> bytes:
        return expand(hmac.digest(stretched, file_key, "sha512"), label, b"", 32)

    right = kek_of(argon2id(), FILE_KEY)

    def row(kek: bytes = right, params: bytes = CHEAP, kind: int = 13) -> bytes:
        return slot_row(13, params, *sealed(kek, slot_context(kind, params)))

    def vector(
        name: str, result: str, slot: bytes, phrase: str = PHRASE, file_key: bytes = FILE_KEY, check: str = ""
    ) -> Vector:
        checked = check or hashlib.sha256(file_key).hexdigest()[:8]
        file = f"SECURECFG-KEY-1-{base64url(file_key)}-{checked}\n"
        opened = {"opens_to": ROOT.hex()} if result == "valid" else {}
        given = {"row": slot.hex(), "vault_id": VAULT.hex(), "passphrase": phrase, "file": file}
        return {"name": name, "result": result, **given, **opened}

    return [
        vector("both right", "valid", row()),
        vector("both right, the passphrase in NFD", "valid", row(), unicodedata.normalize("NFD", PHRASE)),
        vector("another passphrase", "wrong-key", row(), "correct horse"),
        vector("another key file", "wrong-key", row(), file_key=ROOT),
        vector("both other ones", "wrong-key", row(), "correct horse", ROOT),
        vector("sealed with the passphrase alone", "wrong-key", row(argon2id())),
        vector("sealed with the key file alone", "wrong-key", row(FILE_KEY)),
        vector("extracted the other way round", "wrong-key", row(kek_of(FILE_KEY, argon2id()))),
        vector("expanded with another label", "wrong-key", row(kek_of(argon2id(), FILE_KEY, "securecfg/1/slot"))),
        vector("sealed for another kind", "wrong-key", row(kind=1)),
        vector("21 bytes of parameters", "wrong-key", row(params=CHEAP[:21])),
        vector("23 bytes of parameters", "wrong-key", row(params=CHEAP + b"\x00")),
        vector("no passes", "wrong-key", row(params=CHEAP[:20] + b"\x00\x01")),
        vector("17 passes", "key-provider-refused", row(params=CHEAP[:20] + b"\x11\x01")),
        vector("an empty passphrase", "key-provider-refused", row(), ""),
        vector("a damaged key file", "key-provider-refused", row(), check="00000000"),
    ]


# --- 4.16 several keys together ---------------------------------------------------------------------------------------

PART_KEYS = [fixed(f"key file {number}", 32) for number in range(1, 4)]
PARTED = fixed("what the parts are shares of", 32)


def part(x: int, kek: bytes | None = None, needed: int = 2, **place: bytes) -> bytes:
    """What a key file wraps of the share x."""
    told = b"securecfg/1/part\x00" + SLOT_ID + bytes((x,))
    ctx = slot_context(2, b"", **({"slot_id": hashlib.sha256(told).digest()[:16]} | place))
    share = raw_share(x, needed, PARTED)[:-1]
    return b"\x00\x00" + b"".join(sealed(kek or PART_KEYS[x - 1], ctx, content=share))


def parts_of(*parts: bytes, needed: int = 2, count: int | None = None, kinds: Sequence[int] = ()) -> bytes:
    listed = b"".join(
        bytes((kind,)) + len(each).to_bytes(2) + each
        for kind, each in zip(kinds or [2] * len(parts), parts, strict=True)
    )
    return bytes((needed, len(parts) if count is None else count)) + listed


def composite_vectors() -> list[Vector]:
    three = [part(x) for x in (1, 2, 3)]
    good_params = parts_of(*three)

    def kek_of(label: str = "securecfg/1/parts", slot_id: bytes = SLOT_ID, vault_id: bytes = VAULT) -> bytes:
        return expand(PARTED, label, vault_id + slot_id, 32)

    def row(params: bytes = good_params, kek: bytes | None = None, sealed_with: bytes | None = None) -> bytes:
        ctx = slot_context(14, params if sealed_with is None else sealed_with)
        return slot_row(14, params, *sealed(kek or kek_of(), ctx))

    def vector(
        name: str,
        result: str,
        slot: bytes,
        needed: int = 2,
        keys: Sequence[bytes] = PART_KEYS[:2],
        vault_id: bytes = VAULT,
    ) -> Vector:
        files = [f"SECURECFG-KEY-1-{base64url(key)}-{hashlib.sha256(key).hexdigest()[:8]}\n" for key in keys]
        opened = {"opens_to": ROOT.hex()} if result == "valid" else {}
        given = {"row": slot.hex(), "vault_id": vault_id.hex(), "needed": needed, "files": files}
        return {"name": name, "result": result, **given, **opened}

    def refused(name: str, params: bytes, needed: int = 2) -> Vector:
        return vector(name, "wrong-key", row(params), needed)

    first, second, third = PART_KEYS
    all_params = parts_of(*(part(x, needed=3) for x in (1, 2, 3)), needed=3)
    swapped = row(parts_of(three[0], three[2]), sealed_with=parts_of(*three[:2]))
    overlong = b"\xff" + three[2][1:]
    unknown = parts_of(b"\x00\x00" + bytes(80), three[1], three[2], kinds=(200, 2, 2))
    return [
        vector("two of three", "valid", row()),
        vector("two others, in another order", "valid", row(), keys=[third, first]),
        vector("all three where two are needed", "valid", row(), keys=PART_KEYS),
        vector("two right ones and a stranger", "valid", row(), keys=[ROOT, second, third]),
        vector("all of three", "valid", row(all_params), 3, PART_KEYS),
        vector("a part of an unknown kind", "valid", row(unknown), keys=[second, third]),
        vector("one right one and a stranger", "wrong-key", row(), keys=[first, ROOT]),
        vector("two strangers", "wrong-key", row(), keys=[ROOT, VAULT * 2]),
        vector("the same key twice", "wrong-key", row(), keys=[first, first]),
        vector("two where three are needed", "wrong-key", row(all_params), 2),
        vector("three where two are needed", "wrong-key", row(), 3, PART_KEYS),
        vector("more keys than parts", "wrong-key", row(parts_of(*three[:2])), keys=PART_KEYS),
        vector("another vault", "wrong-key", row(), vault_id=OTHER_VAULT),
        vector("sealed with the 32 bytes themselves", "wrong-key", row(kek=PARTED)),
        vector("expanded with another label", "wrong-key", row(kek=kek_of("securecfg/1/part"))),
        vector("expanded for another slot", "wrong-key", row(kek=kek_of(slot_id=bytes(16)))),
        vector("expanded for another vault", "wrong-key", row(kek=kek_of(vault_id=OTHER_VAULT))),
        vector("a part that another took the place of", "wrong-key", swapped),
        refused("parts in another order", parts_of(three[1], three[0], three[2])),
        refused("a part that is bound to the slot itself", parts_of(part(1, slot_id=SLOT_ID), three[1], three[2])),
        refused("a part of another vault", parts_of(part(1, vault_id=OTHER_VAULT), three[1], three[2])),
        refused("one needed", parts_of(*three, needed=1), 2),
        refused("none needed", parts_of(*three, needed=0), 2),
        refused("four of three needed", parts_of(*three, needed=4), 2),
        refused("one part", parts_of(three[0], needed=1), 2),
        refused("no parts", parts_of(needed=2), 2),
        refused("nine parts", parts_of(*three, *(part(x, ROOT) for x in range(4, 10)))),
        refused("one part less than is said", parts_of(*three, count=4)),
        refused("one part more than is said", parts_of(*three, count=2)),
        refused("a byte after the last part", good_params + b"\x00"),
        refused("a part of this kind itself", parts_of(*three, kinds=(2, 2, 14))),
        refused("a part that is a byte short", parts_of(three[0], three[1], three[2][:-1])),
        refused("a part that is a byte long", parts_of(three[0], three[1], three[2] + b"\x00")),
        refused("a part with parameters that go on after its end", parts_of(*three[:2], overlong)),
        refused("an empty part", parts_of(three[0], three[1], b"")),
        refused("no parameters", b""),
        refused("one byte of parameters", b"\x02"),
    ]


def build() -> dict[str, str]:
    """The files by their names."""
    made = {
        "shares": ("4.10", share_vectors()),
        "identities": ("4.11, files", identity_vectors()),
        "identity-slots": ("4.11, slots", identity_slot_vectors()),
        "passphrase-and-file": ("4.13", both_vectors()),
        "composite": ("4.16", composite_vectors()),
    }
    return {
        f"{name}.json": json.dumps({"section": section, "vectors": vectors}, indent=1, ensure_ascii=True) + "\n"
        for name, (section, vectors) in made.items()
    }


if __name__ == "__main__":
    for file_name, text in build().items():
        (FOLDER / file_name).write_text(text)
