"""A new path that looks like one that exists is refused (UTS #39)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import ConfusablePath

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault
    from tests.vault.world import World


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("payments/key", "payrnents/key"),
        ("app/l", "app/I"),
        ("app/1", "app/l"),
        ("app/O", "app/0"),
        ("app/paypal", "app/p\u0430ypal"),
        ("sc\u043epe/a", "scope/b"),
        ("a/b/CLOCK", "a/b/CL0CK/d/e"),
    ],
)
def test_refuses_a_lookalike(vault: Vault, first: str, second: str) -> None:
    vault.write(first, "1")
    with pytest.raises(ConfusablePath) as refused:
        vault.write(second, "2")
    assert refused.value.code == "confusable-path"
    assert vault.list() == [first]
    assert vault.write(second, "2", allow_lookalike=True) == 1


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize(
    ("first", "second"),
    [("payments/key", "payrnents/key"), ("a/b/CLOCK", "a/b/CL0CK/d/e"), ("a/b/CLOCK/d/e", "a/b/CL0CK")],
)
def test_refuses_a_lookalike_of_another_new_path_of_the_same_batch(
    vault: Vault, count: int, first: str, second: str
) -> None:
    def write_both(*, allow_lookalike: bool) -> None:
        with vault.batch() as batch:
            batch.write(first, "1")
            for number in range(count - 2):
                batch.write(f"other/{chr(0x4E00 + number)}", "1")
            batch.write(second, "2", allow_lookalike=allow_lookalike)

    with pytest.raises(ConfusablePath) as refused:
        write_both(allow_lookalike=False)
    assert refused.value.code == "confusable-path"
    assert vault.list() == []
    write_both(allow_lookalike=True)
    assert {first, second} <= set(vault.list())


@pytest.mark.parametrize("count", [2, 30])
def test_a_batch_may_write_beside_and_below_what_it_wrote_itself(vault: Vault, count: int) -> None:
    with vault.batch() as batch:
        for number in range(count):
            batch.write("payments/key", str(number))
            batch.write(f"payments/{chr(0x4E00 + number)}/x", "1")
            batch.write("payments", "1")
    assert len(vault.list()) == count + 2


@pytest.mark.parametrize("count", [0, 30])
def test_what_a_batch_moves_away_again_confuses_nobody(vault: Vault, count: int) -> None:
    with vault.batch() as batch:
        batch.write("payments", "1")
        batch.move("payments", "elsewhere")
        batch.write("payrnents", "2")
        for number in range(count):
            batch.write("elsewhere", str(number))
    assert vault.list() == ["elsewhere", "payrnents"]


def test_refuses_a_lookalike_of_what_this_handle_wrote_after_it_looked(vault: Vault) -> None:
    vault.write("other", "1")
    vault.write("payments", "1")
    with pytest.raises(ConfusablePath):
        vault.write("payrnents", "2")


def test_refuses_a_lookalike_of_what_another_handle_wrote(world: World, vault: Vault) -> None:
    other = world.open()
    other.write("other", "1")
    vault.write("payments", "1")
    with pytest.raises(ConfusablePath):
        other.write("payrnents", "2")


def test_refuses_a_lookalike_of_what_another_handle_wrote_while_this_one_published(world: World, vault: Vault) -> None:
    vault.write("app/alpha", "1")
    vault.write("app/beta", "1")
    other, publisher = world.open(), vault.opened.publisher
    publish = publisher.publish

    def overtaken(*arguments: Any) -> object:  # noqa: ANN401 - those of the method
        publisher.publish = publish  # type: ignore[method-assign]  # as it was
        other.write("app/payments", "1")
        return publish(*arguments)

    publisher.publish = overtaken  # type: ignore[method-assign, assignment]  # another process is faster
    vault.write("app/gamma", "1")
    with pytest.raises(ConfusablePath):
        vault.write("app/payrnents", "1")


def test_refuses_to_move_to_a_lookalike(vault: Vault) -> None:
    vault.write("payments", "1")
    vault.write("other", "1")
    with pytest.raises(ConfusablePath):
        vault.move("other", "payrnents")
    vault.move("other", "payrnents", allow_lookalike=True)


def test_folders_of_the_same_name_in_different_places_do_not_meet(vault: Vault) -> None:
    vault.write("payments/key", "1")
    vault.write("other/payrnents/key", "2")


def test_a_path_may_be_written_again_beside_its_lookalike(vault: Vault) -> None:
    vault.write("payments", "1")
    vault.write("payrnents", "2", allow_lookalike=True)
    assert vault.write("payments", "3") == 2
    assert vault.write("payrnents", "3") == 2


def test_a_path_that_was_moved_away_confuses_nobody(vault: Vault) -> None:
    vault.write("payments", "1")
    vault.move("payments", "elsewhere")
    vault.write("payrnents", "2")


def test_refuses_a_lookalike_of_the_second_of_two_once_the_first_is_gone(vault: Vault) -> None:
    vault.write("payments", "1")
    vault.write("payrnents", "2", allow_lookalike=True)
    vault.move("payments", "elsewhere")
    with pytest.raises(ConfusablePath) as refused:
        vault.write("\u0440ayments", "3")
    assert "payrnents" in refused.value.message
