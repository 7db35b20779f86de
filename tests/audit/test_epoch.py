from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from securecfg.audit import origin_of, vkey_of
from securecfg.audit.epoch import (
    Epochs,
    HandOver,
    create_hand_over,
    follow_hand_overs,
    parse_hand_over,
    verify_hand_over,
)
from securecfg.errors import LogTampered
from tests.audit.sample import ORIGIN, signing_key

KEYS = [vkey_of(ORIGIN, signing_key(epoch)) for epoch in range(5)]
FIRST = create_hand_over(1, ORIGIN, signing_key(0), signing_key(1))
SECOND = create_hand_over(2, ORIGIN, signing_key(1), signing_key(2))
GOOD = FIRST.to_object()


def test_signs_the_message_that_the_format_gives() -> None:
    assert FIRST.message == b"securecfg/1/audit-epoch\n1\n" + KEYS[1].public_key
    verify_hand_over(FIRST, KEYS[0])


def test_survives_being_written_and_read() -> None:
    assert parse_hand_over(GOOD) == FIRST


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 0},
        {"epoch": -1},
        {"epoch": "1"},
        {"epoch": True},
        {"epoch": None},
        {"vkey": ""},
        {"vkey": None},
        {"vkey": 5},
        {"vkey": GOOD["vkey"][:-1]},
        {"old_sig": "?"},
        {"old_sig": None},
        {"old_sig": GOOD["old_sig"][:-1]},
        {"new_sig": GOOD["new_sig"] + "\n"},
    ],
)
def test_is_refused_when_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(LogTampered) as caught:
        parse_hand_over(GOOD | change, 4)
    assert caught.value.index == 4
    for missing in GOOD:
        with pytest.raises(LogTampered):
            parse_hand_over({name: value for name, value in GOOD.items() if name != missing})


@pytest.mark.parametrize(
    "forged",
    [
        dataclasses.replace(FIRST, epoch=2),
        dataclasses.replace(FIRST, key=KEYS[2]),
        dataclasses.replace(FIRST, old_signature=FIRST.new_signature),
        dataclasses.replace(FIRST, new_signature=FIRST.old_signature),
        dataclasses.replace(FIRST, new_signature=b""),
        create_hand_over(1, ORIGIN, signing_key(3), signing_key(1)),
        create_hand_over(1, origin_of(bytes(16)), signing_key(0), signing_key(1)),
        create_hand_over(1, ORIGIN, signing_key(0), signing_key(0)),
    ],
)
def test_is_refused_unless_both_keys_of_this_log_signed(forged: HandOver) -> None:
    with pytest.raises(LogTampered):
        verify_hand_over(forged, KEYS[0])


class TestFollowing:
    def test_leads_from_any_key_to_the_newest(self) -> None:
        assert follow_hand_overs(KEYS[0], [FIRST, SECOND]) == (KEYS[0], KEYS[1], KEYS[2])
        assert follow_hand_overs(KEYS[1], [FIRST, SECOND]) == (KEYS[1], KEYS[2])
        assert follow_hand_overs(KEYS[2], [FIRST, SECOND]) == (KEYS[2],)
        assert follow_hand_overs(KEYS[4], []) == (KEYS[4],)

    def test_refuses_a_chain_that_does_not_start_at_the_key(self) -> None:
        with pytest.raises(LogTampered):
            follow_hand_overs(KEYS[3], [FIRST, SECOND])

    def test_refuses_a_chain_with_a_gap(self) -> None:
        third = create_hand_over(3, ORIGIN, signing_key(2), signing_key(3))
        with pytest.raises(LogTampered):
            follow_hand_overs(KEYS[0], [FIRST, third])


class TestEpochs:
    def test_have_exactly_one_hand_over_each(self) -> None:
        epochs = Epochs(KEYS[0])
        epochs.add(FIRST, 10)
        for again in (FIRST, create_hand_over(3, ORIGIN, signing_key(1), signing_key(2))):
            with pytest.raises(LogTampered) as caught:
                epochs.add(again, 11)
            assert caught.value.index == 11
        epochs.add(SECOND, 20)
        assert epochs.keys == tuple(KEYS[:3])
        assert epochs.hand_overs == (FIRST, SECOND)

    def test_do_not_return_to_an_old_key(self) -> None:
        epochs = Epochs(KEYS[0])
        epochs.add(FIRST, 10)
        with pytest.raises(LogTampered):
            epochs.add(create_hand_over(2, ORIGIN, signing_key(1), signing_key(0)), 11)

    def test_say_who_may_sign_a_checkpoint(self) -> None:
        epochs = Epochs(KEYS[0])
        epochs.add(FIRST, 10)
        epochs.add(SECOND, 11)
        signers = {size: [KEYS.index(key) for key in epochs.signers_of(size)] for size in (0, 1, 10, 11, 12, 13, 99)}
        assert signers == {0: [0], 1: [0], 10: [0], 11: [0, 1], 12: [1, 2], 13: [2], 99: [2]}
