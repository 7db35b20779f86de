"""Section 4.10 of the format: a share that is kept for one identity."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import seal_to
from securecfg.errors import KeyProviderRefused, ShareRefused
from securecfg.keys import IdentityProvider, format_share, generate_shares
from securecfg.keys.identity import (
    UNPROTECTED,
    Identity,
    IdentityFile,
    PrivateHalf,
    format_identity_file,
    generate_identity,
)
from securecfg.keys.sealed_shares import SealedShare, open_share, parse_sealed_share, seal_share

if TYPE_CHECKING:
    from pathlib import Path

SHARES = generate_shares(2, 3)


@pytest.fixture
def ben(tmp_path: Path) -> IdentityProvider:
    return made(tmp_path, "user:ben")


def made(folder: Path, name: str) -> IdentityProvider:
    identity, seed = generate_identity(name)
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(format_identity_file(IdentityFile(identity, PrivateHalf(UNPROTECTED, seed))))
    return IdentityProvider(path)


def checked(text: str) -> str:
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def test_its_identity_opens_it(ben: IdentityProvider) -> None:
    text = seal_share(SHARES[1], ben.read_identity())
    assert format_share(SHARES[1])[42:-9] not in text
    assert open_share(parse_sealed_share(text), ben) == SHARES[1]


def test_nobody_else_opens_it(ben: IdentityProvider, tmp_path: Path) -> None:
    sealed = parse_sealed_share(seal_share(SHARES[1], ben.read_identity()))
    stranger = made(tmp_path, "user:eve")
    with pytest.raises(ShareRefused, match="another identity"):
        open_share(sealed, stranger)
    claimed = sealed._replace(fingerprint=stranger.read_identity().fingerprint)
    with pytest.raises(ShareRefused, match="does not open"):
        open_share(claimed, stranger)


def test_no_character_can_be_changed_unnoticed(ben: IdentityProvider) -> None:
    text = seal_share(SHARES[0], ben.read_identity())
    for place in range(len(text)):
        altered = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        with pytest.raises(ShareRefused):
            parse_sealed_share(altered)


@pytest.mark.parametrize("change", [lambda text: f"{text}\n", lambda text: f" {text}", lambda _: "", str.upper])
def test_there_is_one_spelling(ben: IdentityProvider, change: object) -> None:
    assert callable(change)
    with pytest.raises(ShareRefused):
        parse_sealed_share(change(seal_share(SHARES[0], ben.read_identity())))


def test_what_it_says_is_what_it_holds(ben: IdentityProvider) -> None:
    """The place is bound to the message, and what was sealed must be the share of this place."""
    identity = ben.read_identity()
    one, two = (parse_sealed_share(seal_share(share, identity)) for share in SHARES[:2])
    for wrong in (one._replace(place=two.place), one._replace(message=two.message), one._replace(message=b"")):
        with pytest.raises(ShareRefused, match="does not open"):
            open_share(wrong, ben)
    info = b"securecfg/1/share\x00" + f"{one.place} {identity.fingerprint.hex()}".encode()
    for content in (format_share(SHARES[1]).encode(), b"canary", b"\xff"):
        forged = SealedShare(one.place, identity.fingerprint, seal_to(identity.recipient, content, info))
        with pytest.raises(ShareRefused, match="another one than it says") as refused:
            open_share(forged, ben)
        assert "canary" not in str(refused.value)


def test_the_layout_is_that_of_the_format(ben: IdentityProvider) -> None:
    identity, share = ben.read_identity(), SHARES[2]
    place = f"{share.set_id.hex()}-2of3-3"
    start = f"SECURECFG-SEALED-SHARE-1 {place} {identity.fingerprint.hex()} "
    text = seal_share(share, identity)
    assert text.startswith(start)
    assert text == checked(text[:-9])


def test_a_public_key_that_is_none_seals_nothing() -> None:
    with pytest.raises(KeyProviderRefused, match="is none"):
        seal_share(SHARES[0], Identity("user:x", bytes(1_248)))
