"""The picture of the states of a rotation shows the table."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.rotation.machine import TRANSITIONS, State

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE = DOCS / "explanation" / "rotation-states.svg"
ARROW = re.compile(r'<path class="(?P<kind>[a-z ]+)" d="(?P<way>[^"]+)"><title>(?P<from>\w+) to (?P<to>\w+)</title>')
WAY = re.compile(r"M(?P<x>\d+) (?P<y>\d+).*(?P<axis>[HV])(?P<end>\d+)")


@pytest.fixture
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rotation_states", DOCS / "rotation_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_is_drawn(drawing: ModuleType) -> None:
    run = "run: python docs/rotation_states.py > docs/explanation/rotation-states.svg"
    assert PICTURE.read_text("utf-8") == drawing.render(), run


def test_the_picture_has_each_transition_once() -> None:
    drawn = sorted((arrow["from"], arrow["to"]) for arrow in ARROW.finditer(PICTURE.read_text("utf-8")))
    assert drawn == sorted((str(state), str(to)) for state, reached in TRANSITIONS.items() for to in reached)


def test_each_arrow_goes_from_the_edge_of_one_state_to_that_of_the_other(drawing: ModuleType) -> None:
    for arrow in ARROW.finditer(PICTURE.read_text("utf-8")):
        way = WAY.fullmatch(arrow["way"])
        assert way is not None, arrow["way"]
        start, end = drawing.BOXES[State(arrow["from"])], drawing.BOXES[State(arrow["to"])]
        assert int(way["x"]) in {start.left, start.right} or int(way["y"]) in {start.top, start.bottom}
        edges = {end.left, end.right} if way["axis"] == "H" else {end.top, end.bottom}
        assert int(way["end"]) in edges


def test_no_two_arrows_lie_on_one_another() -> None:
    ways = [arrow["way"] for arrow in ARROW.finditer(PICTURE.read_text("utf-8"))]
    starts = {tuple(way.split("H")[0].split("V")[0].split(" ")) for way in ways}
    assert len(starts) == len(ways)


def test_every_state_is_named_in_the_picture() -> None:
    named = re.findall(r'<text class="name"[^>]*>(\w+)</text>', PICTURE.read_text("utf-8"))
    assert sorted(named) == sorted(State)


def test_a_transition_between_states_that_do_not_face_each_other_is_not_drawn_wrong(drawing: ModuleType) -> None:
    with pytest.raises(ValueError, match="do not face"):
        drawing._way(State.RETIRED, State.FAILED)
