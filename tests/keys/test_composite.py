"""Section 4.16 of the format: several keys, all or some of which open a slot together."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import KEY_BYTES
from securecfg.errors import (
    FileMissing,
    InvalidKeyUri,
    KeyDisabled,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SettingMissing,
    WrongKey,
)
from securecfg.keys import (
    CompositeProvider,
    FileProvider,
    PassphraseProvider,
    Slot,
    SlotKey,
    WrapContext,
    generate_key_file,
    open_provider,
    rewrap_slot,
    seal_under_kek,
)
from securecfg.keys.keyfile import read_key_file
from securecfg.keys.parts import Parts, join_uris, part_context, split_uris
from securecfg.keys.slots import open_slot
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, KeyProviderConformance
from securecfg.testing.key_services import MemoryKms, MemoryKmsProvider, ServiceFault
from tests.keys.conftest import CHEAP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.keys import KeyProvider

HASTY = Patience(deadline_s=1.0, pauses_s=())
PHRASE = "canary-passphrase"


@pytest.fixture
def kms() -> MemoryKms:
    """A service with the keys a, b, c and other."""
    service = MemoryKms()
    for name in ("a", "b", "c", "other"):
        service.create_key(name)
    return service


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the key files 1, 2, 3 and other."""
    for name in ("1", "2", "3", "other"):
        generate_key_file(tmp_path / name)
    return tmp_path


def of_files(folder: Path, needed: int, *names: str) -> CompositeProvider:
    return CompositeProvider(needed, [FileProvider(folder / name) for name in names])


class AllOf(KeyProviderConformance):
    """A key file and a key service, both of which are needed."""

    @pytest.fixture(autouse=True)
    def _keys(self, files: Path, kms: MemoryKms) -> None:
        self._files, self._kms = files, kms

    def provider(self) -> CompositeProvider:
        return self._of("1", "a")

    def stranger(self) -> CompositeProvider:
        return self._of("other", "other")

    def faulty(self, fault: ServiceFault) -> CompositeProvider:
        self._kms.fail(fault)
        return self._of("1", "a")

    def canaries(self) -> tuple[bytes, ...]:
        return read_key_file(self._files / "1"), (self._files / "1").read_bytes()[16:40]

    def _of(self, file: str, name: str) -> CompositeProvider:
        providers: list[KeyProvider] = [FileProvider(self._files / file), MemoryKmsProvider(self._kms, name)]
        return CompositeProvider(2, providers, patience=HASTY)


class TestAllOf(AllOf):
    pass


class TestTwoOfThree(AllOf):
    """The same with a second key of the service, of which one may be missing."""

    def _of(self, file: str, name: str) -> CompositeProvider:
        second = "b" if name == "a" else "c"
        names = [MemoryKmsProvider(self._kms, each) for each in (name, second)]
        return CompositeProvider(2, [FileProvider(self._files / file), *names], patience=HASTY)


# --- how many are enough ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["12", "13", "23", "21", "31", "32", "123", "321"])
def test_any_two_of_three_open_in_any_order(files: Path, names: str) -> None:
    wrapped = of_files(files, 2, "1", "2", "3").wrap(KEY, CONTEXT)
    assert of_files(files, 2, *names).unwrap(wrapped, CONTEXT) == KEY


def test_a_key_that_is_lost_does_not_close_what_the_others_open(files: Path) -> None:
    wrapped = of_files(files, 2, "1", "2", "3").wrap(KEY, CONTEXT)
    (files / "2").unlink()
    assert of_files(files, 2, "1", "2", "3").unwrap(wrapped, CONTEXT) == KEY
    (files / "3").unlink()
    with pytest.raises(FileMissing) as refused:
        of_files(files, 2, "1", "2", "3").unwrap(wrapped, CONTEXT)
    assert str(files / "2") in refused.value.message
    assert str(files / "3") in refused.value.message
    assert str(files / "1") not in refused.value.message


def test_one_key_counts_once(files: Path) -> None:
    wrapped = of_files(files, 2, "1", "2", "3").wrap(KEY, CONTEXT)
    with pytest.raises(WrongKey):
        of_files(files, 2, "1", "1").unwrap(wrapped, CONTEXT)


def test_all_of_them_take_all(files: Path) -> None:
    wrapped = of_files(files, 3, "1", "2", "3").wrap(KEY, CONTEXT)
    for wrong in (
        of_files(files, 2, "1", "2"),
        of_files(files, 2, "1", "2", "3"),
        of_files(files, 3, "1", "2", "other"),
    ):
        with pytest.raises(WrongKey):
            wrong.unwrap(wrapped, CONTEXT)


def test_no_share_of_a_part_tells_the_key_that_wraps(files: Path) -> None:
    """What a part's holder learns is neither the slot key nor the same for two slots."""
    provider = of_files(files, 2, "1", "2")
    seen = set()
    for _ in range(8):
        wrapped = provider.wrap(KEY, CONTEXT)
        part = Parts.parse(wrapped).each[0]
        seen.add(bytes(FileProvider(files / "1").unwrap(part.wrapped, part_context(CONTEXT, 1))))
    assert len(seen) == 8
    assert KEY not in seen


def test_a_part_is_no_slot_of_its_own(files: Path) -> None:
    part = Parts.parse(of_files(files, 2, "1", "2").wrap(KEY, CONTEXT)).each[0]
    with pytest.raises(WrongKey):
        FileProvider(files / "1").unwrap(part.wrapped, CONTEXT)


# --- who is asked -----------------------------------------------------------------------------------------------------


def phrase(asked: list[str], name: str) -> PassphraseProvider:
    def reveal() -> str:
        asked.append(name)
        return PHRASE

    class Asked(Secret[str]):
        def reveal(self) -> str:
            return reveal()

    return PassphraseProvider(Asked(PHRASE), costs=CHEAP)


def test_nobody_is_asked_for_more_than_is_needed(files: Path) -> None:
    asked: list[str] = []
    made = CompositeProvider(2, [FileProvider(files / "1"), FileProvider(files / "2"), phrase(asked, "late")])
    wrapped = made.wrap(KEY, CONTEXT)
    asked.clear()
    assert made.unwrap(wrapped, CONTEXT) == KEY
    assert asked == []
    (files / "2").unlink()
    assert made.unwrap(wrapped, CONTEXT) == KEY
    assert asked == ["late"]


def test_nobody_is_asked_where_it_could_not_help(files: Path) -> None:
    asked: list[str] = []
    made = CompositeProvider(2, [FileProvider(files / "1"), phrase(asked, "late")])
    wrapped = made.wrap(KEY, CONTEXT)
    asked.clear()
    (files / "1").unlink()
    with pytest.raises(FileMissing):
        made.unwrap(wrapped, CONTEXT)
    assert asked == []


def test_a_person_is_asked_only_after_the_services_that_are_named_before(files: Path, kms: MemoryKms) -> None:
    asked: list[str] = []
    kms.latency_s = 0.2
    made = CompositeProvider(2, [FileProvider(files / "1"), MemoryKmsProvider(kms, "a"), phrase(asked, "late")])
    wrapped = made.wrap(KEY, CONTEXT)
    asked.clear()
    assert made.unwrap(wrapped, CONTEXT) == KEY
    assert asked == []


def test_a_silent_service_holds_up_nothing_that_opens_without_it(kms: MemoryKms, files: Path) -> None:
    silent = MemoryKms()
    silent.create_key("a")
    keys: list[KeyProvider] = [FileProvider(files / "1"), MemoryKmsProvider(silent, "a"), MemoryKmsProvider(kms, "b")]
    made = CompositeProvider(2, keys, patience=Patience(deadline_s=60, pauses_s=()))
    wrapped = made.wrap(KEY, CONTEXT)
    silent.fail(ServiceFault.SILENT)
    started = time.monotonic()
    assert made.unwrap(wrapped, CONTEXT) == KEY
    assert time.monotonic() - started < 20


def test_services_are_asked_at_the_same_time_and_each_once(kms: MemoryKms) -> None:
    names = ["a", "b", "c"]
    wrapped = CompositeProvider(3, [MemoryKmsProvider(kms, name) for name in names]).wrap(KEY, CONTEXT)
    running, most, lock = [0], [0], threading.Lock()

    class Counted(MemoryKmsProvider):
        def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.2)
            with lock:
                running[0] -= 1
            return super().unwrap(wrapped, context)

    kms.calls = 0
    assert CompositeProvider(3, [Counted(kms, name) for name in reversed(names)]).unwrap(wrapped, CONTEXT) == KEY
    assert most == [3]
    # One byte of hint leads to the right part of three, but for one in a hundred.
    assert kms.calls <= 5


def test_the_error_says_which_keys_are_away(kms: MemoryKms, files: Path) -> None:
    made = CompositeProvider(2, [FileProvider(files / "1"), MemoryKmsProvider(kms, "a")], patience=HASTY)
    wrapped = made.wrap(KEY, CONTEXT)
    kms.fail(ServiceFault.UNREACHABLE)
    with pytest.raises(KeyProviderUnavailable) as refused:
        made.unwrap(wrapped, CONTEXT)
    assert "2 of the keys are needed" in refused.value.message
    assert "`memory:`" in refused.value.message
    assert "`file:`" not in refused.value.message
    with pytest.raises(KeyProviderUnavailable, match="memory"):
        made.wrap(KEY, CONTEXT)


def test_what_may_pass_is_named_before_what_was_refused(kms: MemoryKms, files: Path) -> None:
    other = MemoryKms()
    other.create_key("b")
    keys: list[KeyProvider] = [FileProvider(files / "1"), MemoryKmsProvider(kms, "a"), MemoryKmsProvider(other, "b")]
    made = CompositeProvider(2, keys, patience=HASTY)
    wrapped = made.wrap(KEY, CONTEXT)
    kms.fail(ServiceFault.DISABLED)
    assert made.unwrap(wrapped, CONTEXT) == KEY
    (files / "1").unlink()
    with pytest.raises(KeyDisabled):
        made.unwrap(wrapped, CONTEXT)
    other.fail(ServiceFault.RESET)
    with pytest.raises(KeyProviderUnavailable):
        made.unwrap(wrapped, CONTEXT)


def test_the_state_of_each_key_can_be_asked(kms: MemoryKms, files: Path) -> None:
    keys: list[KeyProvider] = [FileProvider(files / "1"), MemoryKmsProvider(kms, "a"), FileProvider(files / "2")]
    made = CompositeProvider(2, keys, patience=HASTY)
    wrapped = made.wrap(KEY, CONTEXT)
    assert [state.error for state in made.try_parts(wrapped, CONTEXT)] == [None, None, None]
    kms.fail(ServiceFault.DISABLED)
    (files / "2").unlink()
    states = made.try_parts(wrapped, CONTEXT)
    assert [state.scheme for state in states] == ["file", "memory", "file"]
    assert [type(state.error) for state in states] == [type(None), KeyDisabled, FileMissing]


def slots_of(*providers: CompositeProvider) -> dict[int, Slot]:
    slots = {}
    for number, provider in enumerate(providers, start=1):
        context = WrapContext(CONTEXT.vault_id, bytes((number,)) * 16)
        slots[number] = Slot(14, context.slot_id, provider.wrap(KEY, context))
    return slots


def test_a_key_that_is_away_does_not_close_a_slot_after_one_that_needs_it(kms: MemoryKms, files: Path) -> None:
    def keys(*names: str) -> CompositeProvider:
        service = MemoryKmsProvider(kms, "a")
        return CompositeProvider(2, [service, *(FileProvider(files / name) for name in names)], patience=HASTY)

    slots = slots_of(keys("1", "2"), keys("3", "other"))
    kms.fail(ServiceFault.UNREACHABLE)
    assert open_slot(CONTEXT.vault_id, slots, keys("3", "other"))[0] == 2
    kms.fail(None)
    for name in ("4", "5"):
        generate_key_file(files / name)
    slots = slots_of(of_files(files, 2, "1", "2", "3"), of_files(files, 2, "4", "5", "other"))
    (files / "4").unlink()
    assert open_slot(CONTEXT.vault_id, slots, of_files(files, 2, "4", "5", "other"))[0] == 2
    with pytest.raises(FileMissing):
        open_slot(CONTEXT.vault_id, slots, of_files(files, 2, "4", "1", "other"))


def test_a_service_that_was_away_is_not_waited_for_again_in_the_same_attempt(kms: MemoryKms, files: Path) -> None:
    slots = slots_of(*[CompositeProvider(2, [MemoryKmsProvider(kms, "a"), FileProvider(files / "1")])] * 5)
    kms.fail(ServiceFault.SILENT)
    made = CompositeProvider(2, [MemoryKmsProvider(kms, "a"), FileProvider(files / "1")], patience=HASTY)
    before = kms.calls
    with pytest.raises(KeyProviderUnavailable):
        open_slot(CONTEXT.vault_id, slots, made)
    assert kms.calls == before + 1
    kms.fail(None)
    assert open_slot(CONTEXT.vault_id, slots, made)[0] == 1


class Odd(FileProvider):
    """Somebody's own provider, which answers with something that is no key."""

    kind = 200  # type: ignore[misc]  # of somebody else
    answer: object = b"1" * 31

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Wrap as if it were right."""
        return seal_under_kek(bytes(32), 200, b"", key, context)

    def unwrap(self, _: bytes, __: WrapContext) -> bytes:
        """Return what is no key."""
        return self.answer  # type: ignore[return-value]  # that is the point


class OddService(Odd):
    """The same over a network."""

    key_name = "odd"
    answer: object = 5


@pytest.mark.parametrize("kind", [Odd, OddService])
def test_an_answer_that_is_no_key_does_not_close_what_the_others_open(files: Path, kind: type[Odd]) -> None:
    keys: list[KeyProvider] = [FileProvider(files / "1"), kind(files / "3"), FileProvider(files / "2")]
    made = CompositeProvider(2, keys, patience=HASTY)
    wrapped = made.wrap(KEY, CONTEXT)
    assert made.unwrap(wrapped, CONTEXT) == KEY
    assert [type(one.error) for one in made.try_parts(wrapped, CONTEXT)] == [
        type(None),
        KeyProviderUnavailable,
        type(None),
    ]


def test_one_key_under_two_names_makes_no_slot(files: Path) -> None:
    (files / "alias").symlink_to(files / "1")
    with pytest.raises(KeyProviderRefused, match="the same key"):
        of_files(files, 2, "1", "2", "alias").wrap(KEY, CONTEXT)


# --- wrapping anew ----------------------------------------------------------------------------------------------------


def test_wrapping_anew_takes_all_keys_not_only_those_that_open(files: Path) -> None:
    vault_id, slot_id = CONTEXT
    public = SlotKey(KEY, vault_id, slot_id).public_key
    slot = Slot(14, slot_id, of_files(files, 2, "1", "2", "3").wrap(KEY, CONTEXT))
    for wrong in (("1", "2"), ("1", "2", "other"), ("2", "1", "3")):
        with pytest.raises(WrongKey):
            rewrap_slot(vault_id, slot, public, of_files(files, 2, *wrong))
    after = rewrap_slot(vault_id, slot, public, of_files(files, 2, "1", "2", "3"))
    assert after != slot
    assert of_files(files, 2, "3", "2").unwrap(after.wrapped, CONTEXT) == KEY
    (files / "3").unlink()
    with pytest.raises(FileMissing):
        rewrap_slot(vault_id, slot, public, of_files(files, 2, "1", "2", "3"))


class Forgetful(FileProvider):
    """A key whose newest version wraps, and cannot be read any more."""

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Wrap under another key."""
        return seal_under_kek(bytes(32), self.kind, b"", key, context)


def test_wrapping_anew_loses_none_of_the_keys_that_are_not_needed(files: Path) -> None:
    vault_id, slot_id = CONTEXT
    public = SlotKey(KEY, vault_id, slot_id).public_key
    slot = Slot(14, slot_id, of_files(files, 2, "1", "2", "3").wrap(KEY, CONTEXT))
    keys = [FileProvider(files / "1"), FileProvider(files / "2"), Forgetful(files / "3")]
    with pytest.raises(KeyProviderRefused, match="has just wrapped"):
        rewrap_slot(vault_id, slot, public, CompositeProvider(2, keys))


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("needed", "count"), [(0, 2), (1, 2), (3, 2), (1, 1), (2, 9), (9, 9)])
def test_refuses_numbers_that_cannot_be(files: Path, needed: int, count: int) -> None:
    with pytest.raises(ValueError, match="together"):
        CompositeProvider(needed, [FileProvider(files / "1")] * count)


def test_refuses_several_keys_within_several(files: Path) -> None:
    with pytest.raises(ValueError, match="other kinds"):
        CompositeProvider(2, [FileProvider(files / "1"), of_files(files, 2, "2", "3")])


def test_parts_that_do_not_fit_into_a_slot_are_refused_when_it_is_made(files: Path) -> None:
    keys: list[KeyProvider] = [MemoryKmsProvider(MemoryKms(filling_bytes=1_000), "a") for _ in range(4)]
    for key in keys:
        assert isinstance(key, MemoryKmsProvider)
        key.service.create_key("a")
    with pytest.raises(KeyProviderRefused, match="room"):
        CompositeProvider(4, keys).wrap(KEY, CONTEXT)
    wrapped = CompositeProvider(3, keys[:3]).wrap(KEY, CONTEXT)
    assert len(Slot(14, CONTEXT.slot_id, wrapped).to_bytes()) <= 4096


@given(st.binary(max_size=400))
def test_any_bytes_as_parts_are_a_wrong_key_or_parts_again(params: bytes) -> None:
    wrapped = len(params).to_bytes(2) + params + bytes(KEY_BYTES + 48)
    try:
        parts = Parts.parse(wrapped)
    except WrongKey:
        return
    assert parts.to_bytes() == params


# --- URIs -------------------------------------------------------------------------------------------------------------

URIS = st.lists(
    st.tuples(st.sampled_from(["file", "pkcs11", "awskms"]), st.text("ab,;?:/%= ", max_size=12))
    .map(":".join)
    .filter(lambda uri: not uri.endswith(":")),
    min_size=2,
    max_size=8,
    unique=True,
)


@given(URIS, st.data())
def test_whatever_is_in_the_uris_they_come_back(uris: list[str], data: st.DataObject) -> None:
    needed = data.draw(st.integers(2, len(uris)))
    joined = join_uris(needed, uris)
    assert split_uris(joined.removeprefix("composite:")) == (needed, tuple(uris))


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "all",
        "2",
        "all,",
        "all,file:a",
        "2,file:a",
        "1,file:a,file:b",
        "0,file:a,file:b",
        "3,file:a,file:b",
        "02,file:a,file:b",
        "+2,file:a,file:b",
        "\u0662,file:a,file:b",
        "any,file:a,file:b",
        "ALL,file:a,file:b",
        "file:a,file:b",
        "all,file:a,file:b,",
        "all,,file:a,file:b",
        "all,file:a,file:b\x00",
        "all,file:a,a",
        "all,file:a,nonesuch:b",
        "all,file:a,file:a",
        "all,keyring:,keyring:",
        "2,file:a,composite:all,,file:b,,file:c",
        "2,file:a,COMPOSITE:all",
        "2," + ",".join(f"file:{number}" for number in range(9)),
        "9," + ",".join(f"file:{number}" for number in range(9)),
    ],
)
def test_refuses_uris_that_do_not_name_several_keys(rest: str) -> None:
    with pytest.raises(InvalidKeyUri):
        open_provider(f"composite:{rest}").wrap(KEY, CONTEXT)


def test_no_refusal_shows_what_was_written() -> None:
    for rest in ("3,canary:canary,canary:b", "canary", "all,file:canary,file:canary"):
        with pytest.raises(InvalidKeyUri) as refused:
            open_provider(f"composite:{rest}")
        assert "canary" not in f"{refused.value.message} {refused.value.hint}"


def test_a_person_is_told_which_of_the_keys_is_asked_for(files: Path) -> None:
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return PHRASE

    made = CompositeProvider(2, [FileProvider(files / "1"), PassphraseProvider(Secret(PHRASE), costs=CHEAP)])
    wrapped = made.wrap(KEY, CONTEXT)
    assert open_provider(f"composite:all,file:{files / '1'},passphrase:", ask=ask).unwrap(wrapped, CONTEXT) == KEY
    assert asked == ["passphrase (key 2 of 2)"]
    with pytest.raises(SettingMissing):
        open_provider(f"composite:all,file:{files / '1'},passphrase:").unwrap(wrapped, CONTEXT)


def test_two_people_may_give_a_passphrase_each(tmp_path: Path) -> None:
    answers = {"passphrase (key 1 of 2)": "canary one", "passphrase (key 2 of 2)": "canary two"}
    given_to: Callable[[str], str] = answers.__getitem__
    made = CompositeProvider(2, [PassphraseProvider(Secret(text), costs=CHEAP) for text in answers.values()])
    wrapped = made.wrap(KEY, CONTEXT)
    assert open_provider("composite:all,passphrase:,passphrase:", ask=given_to).unwrap(wrapped, CONTEXT) == KEY


def test_several_parts_of_one_service_share_one_time_limit(kms: MemoryKms) -> None:
    names = [f"key {number}" for number in range(5)]
    for name in names:
        kms.create_key(name)
    wrapped = CompositeProvider(2, [MemoryKmsProvider(kms, name) for name in names]).wrap(KEY, CONTEXT)
    for name in ("x", "y"):
        kms.create_key(name)
    strangers = [MemoryKmsProvider(kms, name) for name in ("x", "y")]
    kms.latency_s = 0.4
    made = CompositeProvider(2, strangers, patience=Patience(deadline_s=1.0, pauses_s=()))
    begun = time.monotonic()
    with pytest.raises(KeyProviderUnavailable):
        made.unwrap(wrapped, CONTEXT)
    assert time.monotonic() - begun < 3  # in turn it would take four


def test_making_and_checking_a_slot_asks_all_services_at_the_same_time(kms: MemoryKms) -> None:
    names = [f"key {number}" for number in range(4)]
    for name in names:
        kms.create_key(name)
    silent = MemoryKms()
    for name in names:
        silent.create_key(name)
    patience = Patience(deadline_s=1.0, pauses_s=())
    made = CompositeProvider(2, [MemoryKmsProvider(silent, name) for name in names], patience=patience)
    wrapped = made.wrap(KEY, CONTEXT)
    silent.fail(ServiceFault.SILENT)
    for call in (lambda: made.wrap(KEY, CONTEXT), lambda: made.verify_parts(wrapped, CONTEXT)):
        begun = time.monotonic()
        with pytest.raises(KeyProviderUnavailable):
            call()
        assert time.monotonic() - begun < 3  # in turn it would take four


def test_nobody_is_asked_to_make_a_slot_where_a_service_is_away(kms: MemoryKms) -> None:
    asked: list[str] = []
    made = CompositeProvider(2, [phrase(asked, "first"), MemoryKmsProvider(kms, "a")], patience=HASTY)
    kms.fail(ServiceFault.UNREACHABLE)
    with pytest.raises(KeyProviderUnavailable):
        made.wrap(KEY, CONTEXT)
    assert asked == []


class HeldFile(FileProvider):
    """A key that asks nobody and takes its time, as a token may: until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go_on = threading.Event()
        self.is_done = False

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        self.go_on.wait(30)
        self.is_done = True
        return super().unwrap(wrapped, context)


def test_a_key_that_is_slow_holds_up_no_other_that_asks_nobody(files: Path) -> None:
    wrapped = of_files(files, 2, "1", "2", "3").wrap(KEY, CONTEXT)
    held = HeldFile(files / "1")
    try:
        assert (
            CompositeProvider(2, [held, FileProvider(files / "2"), FileProvider(files / "3")]).unwrap(wrapped, CONTEXT)
            == KEY
        )
        assert not held.is_done
    finally:
        held.go_on.set()
