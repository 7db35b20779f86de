"""Section 4.10 of the format: shares as people hold them."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import KeyBytes, split_secret
from securecfg.errors import FileMissing, InvalidKeyUri, KeyProviderRefused, SettingMissing, ShareRefused, UsageError
from securecfg.keys import ShamirProvider, Share, format_share, generate_shares, open_provider
from securecfg.keys.shares import combine_shares, parse_share, read_share
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, LocalKeyProviderConformance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from securecfg.keys import Ask

SECRET = bytes(range(32))
SET = tuple(Share(bytes(8), 3, 5, raw) for raw in split_secret(SECRET, 3, 5))
OTHER = generate_shares(3, 5)
PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " \n\t"


def write_shares(folder: Path, shares: Sequence[Share]) -> list[str]:
    names = []
    for share in shares:
        path = folder / f"share-{share.number}-{share.set_id.hex()}"
        path.touch(mode=0o600)
        path.write_text(f"{format_share(share)}\n")
        names.append(str(path))
    return names


class TestShamir(LocalKeyProviderConformance):
    def provider(self) -> ShamirProvider:
        return ShamirProvider(lambda: SET[:3])

    def stranger(self) -> ShamirProvider:
        return ShamirProvider(lambda: OTHER[:3])

    def canaries(self) -> tuple[bytes, ...]:
        return SECRET, *(bytes(share.raw) for share in SET), format_share(SET[0])[-54:-10].encode()

    def test_any_of_the_shares_open_it(self) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        for shares in (SET[2:], SET[::-1], (SET[4], SET[0], SET[3])):
            assert ShamirProvider(lambda shares=shares: shares).unwrap(wrapped, CONTEXT) == KEY  # type: ignore[misc]  # lambda default


# --- text -------------------------------------------------------------------------------------------------------------


@given(threshold=st.integers(2, 9), more=st.integers(0, 246), set_id=st.binary(min_size=8, max_size=8), data=st.data())
def test_what_was_formatted_parses(threshold: int, more: int, set_id: bytes, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, threshold + more))
    raw = KeyBytes(data.draw(st.binary(min_size=32, max_size=32)) + bytes((number,)))
    share = Share(set_id, threshold, threshold + more, raw)
    text = format_share(share)
    assert text.isascii()
    assert text.isprintable()
    assert parse_share(text) == share
    assert share.number == number


@pytest.mark.parametrize("number", range(5))
def test_any_altered_missing_added_or_swapped_character_is_refused(number: int) -> None:
    text = format_share(SET[number])
    wrong = {text[:place] + text[place + 1 :] for place in range(len(text))}
    wrong |= {text[:place] + other + text[place + 1 :] for place in range(len(text)) for other in PRINTABLE}
    wrong |= {text[:place] + other + text[place:] for place in range(len(text) + 1) for other in "0aA-_=.\n "}
    wrong |= {text[:place] + text[place + 1] + text[place] + text[place + 2 :] for place in range(len(text) - 1)}
    wrong -= {text}
    assert len(wrong) > 8_000
    for altered in wrong:
        with pytest.raises(ShareRefused) as refused:
            parse_share(altered)
        assert refused.value.code == "share-refused"


@given(st.text(max_size=200))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    with pytest.raises(ShareRefused):
        parse_share(text)


def test_shows_nothing_of_a_share() -> None:
    text = format_share(SET[0])
    assert bytes(SET[0].raw).hex() not in repr(SET[0])
    assert "key of 33 bytes" in repr(SET[0])
    with pytest.raises(ShareRefused) as refused:
        parse_share(text[:-1])
    assert text[30:60] not in f"{refused.value!r}{refused.value.hint}"


# --- putting together -------------------------------------------------------------------------------------------------


def forged(share: Share, place: int) -> Share:
    raw = bytearray(share.raw)
    raw[place] ^= 1
    return share._replace(raw=KeyBytes(raw))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((), "shares are needed, and none given"),
        (SET[:2], "3 shares are needed, and 2 given"),
        ((SET[0], SET[1], SET[0]), "share 1 is given twice"),
        ((*SET[:3], SET[1]), "share 2 is given twice"),
        ((SET[0], SET[1], OTHER[2]), "share 3 belongs to another set than share 1"),
        ((SET[0], SET[1], SET[2]._replace(threshold=2)), "share 3 belongs to another set than share 1"),
        ((SET[0], SET[1], SET[2]._replace(total=6)), "share 3 belongs to another set than share 1"),
        ((*SET[:3], forged(SET[3], 31)), "share 4 contradicts the others, or one of them is forged"),
        ((forged(SET[0], 0), *SET[1:]), "share 4 contradicts the others, or one of them is forged"),
    ],
)
def test_says_what_is_wrong_with_shares(shares: tuple[Share, ...], message: str) -> None:
    with pytest.raises(ShareRefused) as refused:
        combine_shares(shares)
    assert refused.value.message == message
    assert refused.value.hint


def test_a_set_has_a_new_key_and_an_id_of_its_own() -> None:
    sets = [generate_shares(2, 3) for _ in range(20)]
    assert len({shares[0].set_id for shares in sets}) == 20
    assert len({bytes(combine_shares(shares)) for shares in sets}) == 20
    assert all([share.number for share in shares] == [1, 2, 3] for shares in sets)


@pytest.mark.parametrize(("threshold", "count"), [(1, 3), (0, 0), (4, 3), (2, 256)])
def test_refuses_sets_that_make_no_sense(threshold: int, count: int) -> None:
    with pytest.raises(UsageError):
        generate_shares(threshold, count)


# --- where shares come from -------------------------------------------------------------------------------------------


def test_reads_one_share_from_each_file(tmp_path: Path) -> None:
    names = write_shares(tmp_path, SET)
    wrapped = open_provider("shamir:" + ",".join(names[:3])).wrap(KEY, CONTEXT)
    assert open_provider("shamir:" + ",".join(reversed(names[2:]))).unwrap(wrapped, CONTEXT) == KEY


def test_a_tilde_is_the_home_directory(home: Path) -> None:
    write_shares(home, SET)
    for path in home.glob("share-*"):
        path.rename(home / path.name.partition("-0")[0])
    wrapped = ShamirProvider(lambda: SET).wrap(KEY, CONTEXT)
    assert open_provider("shamir:~/share-1,~/share-3,~/share-4").unwrap(wrapped, CONTEXT) == KEY


@pytest.mark.parametrize("rest", [",", "a,", ",a", "a,,b", "a,b\x00"])
def test_refuses_uris_that_name_no_files(rest: str) -> None:
    with pytest.raises(InvalidKeyUri):
        open_provider(f"shamir:{rest}")


def test_files_are_read_when_they_are_needed_and_must_be_private(tmp_path: Path) -> None:
    names = write_shares(tmp_path, SET[:3])
    provider = open_provider("shamir:" + ",".join([*names[:2], str(tmp_path / "absent")]))
    with pytest.raises(FileMissing):
        provider.wrap(KEY, CONTEXT)
    (tmp_path / "absent").symlink_to(names[2])
    wrapped = provider.wrap(KEY, CONTEXT)
    (tmp_path / names[1]).chmod(0o640)
    with pytest.raises(KeyProviderRefused, match="by others"):
        provider.unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\n", b"x" * 129, format_share(SET[0]).encode() + b"\r\n"])
def test_a_file_that_holds_something_else_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "share"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyProviderRefused) as refused:
        read_share(path)
    assert f"`{path}`" in refused.value.message


class Holders:
    """People who are asked for a share one after the other."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.answers.pop(0)


def opened(ask: Ask | None) -> bytes:
    provider = open_provider("shamir:", ask=ask)
    return provider.unwrap(ShamirProvider(lambda: SET).wrap(KEY, CONTEXT), CONTEXT)


def test_asks_for_one_share_after_the_other() -> None:
    holders = Holders(*(f" {format_share(share)}\n" for share in SET))
    assert opened(holders) == KEY
    assert holders.prompts == ["share 1", "share 2 of 3", "share 3 of 3"]


def test_asks_once_however_many_slots_are_tried() -> None:
    holders = Holders(*map(format_share, SET))
    provider = open_provider("shamir:", ask=holders)
    assert holders.prompts == []
    wrapped = provider.wrap(KEY, CONTEXT)
    assert [provider.unwrap(wrapped, CONTEXT) for _ in range(3)] == [KEY] * 3
    assert len(holders.prompts) == 3


def test_one_slip_does_not_bring_everybody_back() -> None:
    one, two, three = map(format_share, SET[:3])
    holders = Holders(one, two[:-1], one, two, format_share(OTHER[0]), three)
    assert opened(holders) == KEY
    assert holders.prompts[2:4] == [
        "this is not a share, or it was altered; share 2 of 3",
        "share 1 is given twice; share 2 of 3",
    ]
    assert holders.prompts[5] == "share 1 belongs to another set than share 1; share 3 of 3"


def test_asks_three_times_and_not_for_ever() -> None:
    holders = Holders(*["nonsense"] * 9)
    with pytest.raises(ShareRefused):
        opened(holders)
    assert len(holders.prompts) == 3


def test_with_nobody_to_ask_says_what_to_use_instead() -> None:
    with pytest.raises(SettingMissing) as refused:
        opened(None)
    assert "shamir:FILE,FILE" in refused.value.hint
