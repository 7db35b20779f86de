"""Write the vectors of single kinds of slots: `python -m tests.vectors.generate_keys`. See `generate`."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

from tests.vectors.generate import FOLDER, OTHER_VAULT, ROOT, VAULT, Vector, fixed, flip, sealed, slot_context, slot_row

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


def build() -> dict[str, str]:
    """The files by their names."""
    made = {"shares": ("4.10", share_vectors())}
    return {
        f"{name}.json": json.dumps({"section": section, "vectors": vectors}, indent=1, ensure_ascii=True) + "\n"
        for name, (section, vectors) in made.items()
    }


if __name__ == "__main__":
    for file_name, text in build().items():
        (FOLDER / file_name).write_text(text)
