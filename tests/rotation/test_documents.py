"""What is stored of a rotation: what is no such document is refused, and its history stays one line long."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import RotationNotFound, Tampered, UnsupportedFormat
from securecfg.rotation.document import (
    Holder,
    Rotation,
    Rules,
    all_rotations,
    document_path,
    encode_rotation,
    find_rotation,
    parse_rotation,
)
from securecfg.rotation.machine import Progress, State
from securecfg.rotation.news import draft_news
from securecfg.rotation.steps import Steps
from securecfg.vault.documents import MALFORMED
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.verification import verify_vault
from tests.rotation.conftest import PATH

if TYPE_CHECKING:
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld

PROGRESS = Progress("a1" * 16, State.CURRENT, 5, 6, "due", version=2, former=1, acknowledged=("svc:a",))
WHOLE = Rotation(
    7,
    PATH,
    Rules("random", {"length": "40"}, {"every": "30d", "windows": [{"days": "mon"}]}, 60, 61, 5, ("svc:a",), True),
    "user:ada",
    99,
    True,
    PROGRESS,
    Holder("somebody", 30),
    3,
    44,
)


def _document(rotation: Rotation = WHOLE) -> Any:  # noqa: ANN401 - JSON
    return json.loads(b"".join(encode_rotation(rotation).pieces()))


def _refused(document: object) -> bool:
    try:
        parse_rotation(document)
    except MALFORMED:
        return True
    return False


def test_a_rotation_comes_back_as_it_was_again_and_again() -> None:
    once = parse_rotation(_document())
    assert once == WHOLE
    assert parse_rotation(_document(once)) == WHOLE


@pytest.mark.parametrize("state", State)
def test_every_state_comes_back(state: State) -> None:
    failed_in = State.SET if state is State.FAILED else None
    rotation = WHOLE._replace(progress=PROGRESS._replace(state=state, failed_in=failed_in), holder=None)
    assert parse_rotation(_document(rotation)) == rotation


def _places() -> list[tuple[str, ...]]:
    document = _document()
    places = [(name,) for name in document]
    return places + [(part, name) for part in ("rules", "progress", "holder") for name in document[part]]


def _with(place: tuple[str, ...], value: object) -> object:
    document = copy.deepcopy(_document())
    inside = document
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    return document


@pytest.mark.parametrize("place", _places(), ids="/".join)
def test_a_document_without_one_of_its_fields_is_refused(place: tuple[str, ...]) -> None:
    document = copy.deepcopy(_document())
    inside = document
    for name in place[:-1]:
        inside = inside[name]
    del inside[place[-1]]
    assert _refused(document)


@pytest.mark.parametrize("place", _places(), ids="/".join)
def test_a_field_of_another_type_is_refused(place: tuple[str, ...]) -> None:
    there = _at(place)
    for value in (None, True, 1, 1.5, "text", [], {}, [1], {"x": 1}, float("nan"), float("inf")):
        is_alike = type(value) is type(there) and not (isinstance(value, list | dict) and value)
        may_be_missing = value is None and place[-1] in {"progress", "holder", "schedule", "failed_in"}
        if not is_alike and not may_be_missing and (place, value) != (("v",), True) and place != ("rules", "schedule"):
            assert _refused(_with(place, value)), value


def _at(place: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    there = _document()
    for name in place:
        there = there[name]
    return there


NUMBERS = [place for place in _places() if type(_at(place)) is int]


@pytest.mark.parametrize("place", NUMBERS, ids="/".join)
@pytest.mark.parametrize("number", [-1, 1 << 63, 10**400, float("nan"), 1e300, -0.5, "7", False])
def test_a_number_that_there_cannot_be_is_refused(place: tuple[str, ...], number: object) -> None:
    assert _refused(_with(place, number))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("v",), 0),
        (("v",), 1 << 63),
        (("path",), ""),
        (("path",), "/app"),
        (("path",), "a\x00b"),
        (("rules", "options"), {"x": 1}),
        (("rules", "options"), [["x", "y"]]),
        (("rules", "consumers"), "svc:a"),
        (("rules", "consumers"), {"svc:a": 1}),
        (("rules", "consumers"), [1]),
        (("rules", "timeout_s"), 0),
        (("rules", "timeout_s"), 901),
        (("rules", "propagation_s"), 86_401),
        (("rules", "grace_s"), 366 * 86_400 + 1),
        (("holder", "lease_s"), 0),
        (("holder", "lease_s"), 1 << 40),
        (("progress", "token"), "A1" * 16),
        (("progress", "token"), "a1" * 15),
        (("progress", "token"), "a1" * 16 + "\n"),
        (("progress", "state"), "finished"),
        (("progress", "state"), "failed"),  # in no state
        (("progress", "failed_in"), "pending"),  # which has not failed
        (("progress", "version"), 0),
        (("progress", "version"), 1 << 32),
        (("progress", "former"), 1 << 32),
        (("progress", "acknowledged"), "svc:a"),
    ],
)
def test_what_makes_no_sense_is_refused(place: tuple[str, ...], value: object) -> None:
    assert _refused(_with(place, value))


@pytest.mark.parametrize("failed_in", ["failed", "current", "retired", "cancelled", "x", 1])
def test_a_rotation_has_failed_in_no_state_in_which_none_can(failed_in: object) -> None:
    document = _document()
    document["progress"] |= {"state": "failed", "failed_in": failed_in}
    assert _refused(document)


@pytest.mark.parametrize("document", [None, 1, "text", [], [1], {}, {"v": 1}])
def test_what_is_no_document_is_refused(document: object) -> None:
    assert _refused(document)


# --- in a vault ------------------------------------------------------------------------------------------------------


def _put(vault: Vault, path: bytes, content: bytes, expect: int | None = None) -> None:
    """Put a document where whoever holds the key may put one."""
    new = NewVersion("user:ada", vault.opened.clock.now_ns(), expect=expect)

    def plan(publication: Any) -> Plan:  # noqa: ANN401 - a publication
        plan = Drafts(vault.opened, publication).supersede(path, Content.of(KIND_TEXT, content), new)
        plan.records = [vault.authority.session().record(Event.ROTATION_SET, {"path": PATH, "rotator": "random"})]
        return plan

    vault.opened.publisher.publish(plan)


def _record(world: RotationWorld, vault: Vault) -> int:
    return world.rotations(vault).find(PATH).record


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"v": NaN}',
        b'{"v": "\\ud800"}',
        b"{}" + b" " * 200_000,
    ],
)
def test_a_malformed_document_is_called_tampered(world: RotationWorld, content: bytes) -> None:
    vault = world.begin()
    record = _record(world, vault)
    _put(vault, document_path(record), content)
    with pytest.raises(Tampered) as caught:
        world.rotations(vault).find(PATH)
    assert "malformed" in caught.value.message
    with pytest.raises(Tampered):
        list(all_rotations(vault.opened))


def put_newer(vault: Vault, path: str) -> None:
    """Say how a secret is rotated as a newer version of this library may."""
    stored = Steps(vault.authority).find(path)
    new = NewVersion("user:ada", vault.opened.clock.now_ns(), expect=None)
    name, content = document_path(stored.rotation.record), b'{"v":2,"rotation":[]}'

    def plan(publication: Any) -> Plan:  # noqa: ANN401 - a publication
        drafts = Drafts(vault.opened, publication)
        plan = drafts.supersede(name, Content.of(KIND_TEXT, content), new)
        plan.join(draft_news(drafts, stored.rotation.record, new))
        plan.records = [vault.authority.session().record(Event.ROTATION_SET, {"path": path, "rotator": "random"})]
        return plan

    vault.opened.publisher.publish(plan)


def test_what_a_newer_version_has_set_is_named_as_that_and_leaves_the_others_alone(world: RotationWorld) -> None:
    vault = world.begin(consumers=("user:ada",))
    vault.write("app/other", "x")
    rotations = world.rotations(vault)
    rotations.set("app/other", Rules("random"))
    put_newer(vault, PATH)
    for ask in (rotations.find, rotations.remove, rotations.pause, rotations.cancel):
        with pytest.raises(UnsupportedFormat) as caught:
            ask(PATH)
        assert (caught.value.code, caught.value.exit_code) == ("unsupported-format", 10)
        assert "format 2" in caught.value.message
    with pytest.raises(UnsupportedFormat):
        rotations.set(PATH, Rules("random"))
    assert [each.path for each in rotations.all()] == ["app/other"]
    assert Steps(vault.authority).newer() == [PATH]
    vault.on_rotate("app/**", print)()
    vault.move(PATH, "app/elsewhere")
    assert Steps(vault.authority).newer() == ["app/elsewhere"]


def test_a_document_of_another_secret_is_called_tampered(world: RotationWorld) -> None:
    vault = world.begin()
    record = _record(world, vault)
    rotation = world.rotations(vault).find(PATH)._replace(record=record + 1)
    _put(vault, document_path(record), b"".join(encode_rotation(rotation).pieces()))
    with pytest.raises(Tampered) as caught:
        find_rotation(vault.opened, record)
    assert "malformed" in caught.value.message


def test_the_history_of_a_document_stays_one_line_and_its_numbers_go_on(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    numbers = [runner.steps.find(PATH).number]
    for _ in range(3):
        world.lead_on(runner, "asked")
        numbers.append(runner.steps.find(PATH).number)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 20
    name = document_path(_record(world, vault))
    entry = vault.opened.entry(name)
    assert entry is not None
    history = vault.opened.history(name, entry)
    assert (len(history.versions), history.older, history.newest) == (1, (), numbers[-1])
    checked = verify_vault(vault.opened)
    assert not checked.problems
    assert not checked.orphan_rows


def test_numbers_go_on_where_a_rotation_is_removed_and_set_again(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, steps = world.rotations(vault), world.runner(vault).steps
    before = steps.find(PATH)
    for _ in range(3):
        rotations.remove(PATH)
        with pytest.raises(RotationNotFound):
            steps.find(PATH)
        rotations.set(PATH, Rules("account", is_hard_cut=True))
        after = steps.find(PATH)
        assert after.number > before.number
        assert after.rotation.progress is None
        before = after
    assert not verify_vault(vault.opened).orphan_rows
