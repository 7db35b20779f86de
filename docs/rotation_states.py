"""Draw the states of a rotation: `python docs/rotation_states.py > docs/explanation/rotation-states.svg`.

The arrows are those of the table in `securecfg/rotation/machine.py`; where each state lies, and what is written into
it, is chosen here. A test holds that the picture is what this prints.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from securecfg.rotation.machine import OVER, TRANSITIONS, State

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, HEIGHT = 760, 766
LINE = 15
ASIDE = 9
"""How far an arrow is from the middle, where there is one the other way."""

DETOUR = 26
"""How far what passes another state by goes out to the left."""


class Box(NamedTuple):
    """Where a state lies, and what is true in it."""

    left: int
    top: int
    width: int
    height: int
    says: tuple[str, ...]

    @property
    def right(self) -> int:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.top + self.height

    @property
    def middle(self) -> tuple[int, int]:
        """Its middle."""
        return self.left + self.width // 2, self.top + self.height // 2


_LEFT, _WIDE, _HIGH = 264, 232, 50

BOXES = {
    State.BEGUN: Box(_LEFT, 92, _WIDE, _HIGH, ("a token is stored",)),
    State.PENDING: Box(_LEFT, 188, _WIDE, _HIGH, ("a candidate is stored",)),
    State.SET: Box(_LEFT, 284, _WIDE, _HIGH, ("the target said that it accepts it",)),
    State.TESTED: Box(_LEFT, 380, _WIDE, _HIGH, ("it can do what it is for",)),
    State.CURRENT: Box(_LEFT, 500, _WIDE, _HIGH, ("it is what readers get",)),
    State.PREVIOUS: Box(_LEFT, 596, _WIDE, _HIGH, ("nobody needs the old one",)),
    State.RETIRED: Box(_LEFT, 692, _WIDE, _HIGH, ("the target refuses the old one",)),
    State.FAILED: Box(606, 28, 130, 618, ("a person", "is needed")),
    State.CANCELLING: Box(24, 28, 130, 402, ("it is taken", "back: the target", "has to accept", "what is current")),
    State.CANCELLED: Box(24, 500, 130, 50, ("all is as it was",)),
}

SWAP = 465
"""The line between what may be taken back and what may not."""

WORDS = (
    (_LEFT + 130, 82, "start", "due, or asked for"),
    (_LEFT + 97, 169, "end", "rejected: another one"),
    (_LEFT + 134, SWAP - 10, "start", "readers get the old one"),
    (_LEFT + 134, SWAP + 19, "start", "readers get the new one"),
    (_LEFT + 106, 577, "end", "acknowledged, or the grace is over"),
    (70, 698, "start", "by itself"),
    (70, 718, "start", "waits for a person"),
    (70, 738, "start", "a person says so"),
)
"""What is written beside arrows: where, which end of the text is there, and the text."""

LEGEND = (("arrow", 694), ("arrow fails", 714), ("arrow person", 734))

STYLE = """\
.panel { fill: #fdfdfd; stroke: #d5d9e0 }
.box { fill: #eef3fb; stroke: #3d5a8a; stroke-width: 1.5 }
.over { fill: #e6f4ea; stroke: #2f7d4b; stroke-width: 1.5 }
.stop { fill: #fdecea; stroke: #b3382c; stroke-width: 1.5 }
.back { fill: #fff4dc; stroke: #9a6a00; stroke-width: 1.5 }
.name { font: 600 15px sans-serif; fill: #1c2430 }
.says { font: 12px sans-serif; fill: #3f4856 }
.arrow { fill: none; stroke: #3d5a8a; stroke-width: 1.6; marker-end: url(#goes) }
.fails { stroke: #b3382c; marker-end: url(#fails) }
.person { stroke: #9a6a00; marker-end: url(#person) }
.head-goes { fill: #3d5a8a }
.head-fails { fill: #b3382c }
.head-person { fill: #9a6a00 }
.swap { stroke: #6b7483; stroke-width: 1.4; stroke-dasharray: 6 5 }
@media (prefers-color-scheme: dark) {
.panel { fill: #171a20; stroke: #363c47 }
.box { fill: #1f2b40; stroke: #8fb0e6 }
.over { fill: #1b3324; stroke: #7cc798 }
.stop { fill: #3d1f1c; stroke: #f0958b }
.back { fill: #38300f; stroke: #e2b654 }
.name { fill: #f1f3f6 }
.says { fill: #c3c9d3 }
.arrow { stroke: #8fb0e6 }
.fails { stroke: #f0958b }
.person { stroke: #e2b654 }
.head-goes { fill: #8fb0e6 }
.head-fails { fill: #f0958b }
.head-person { fill: #e2b654 }
.swap { stroke: #98a1b0 }
}
"""

DESCRIPTION = (
    "From begun over pending, set and tested to current, where readers get the new version; then over previous to "
    "retired. What fails waits for a person. Until readers get the new version it may be taken back."
)


def render() -> str:
    """Return the picture."""
    return "\n".join((*_frame(), *_arrows(), *map(_box, BOXES), *_remarks(), "</svg>", ""))


def _frame() -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    yield ' role="img" aria-labelledby="title description">'
    yield '<title id="title">The states of a rotation</title>'
    yield f'<desc id="description">{DESCRIPTION}</desc>'
    yield f"<style>\n{STYLE}</style>"
    yield "<defs>"
    for kind in ("goes", "fails", "person"):
        yield (
            f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path class="head-{kind}" d="M0 0L8 4L0 8z"/></marker>'
        )
    yield "</defs>"
    yield f'<rect class="panel" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10"/>'


def _arrows() -> Iterator[str]:
    for state, reached in TRANSITIONS.items():
        for to in sorted(reached):
            yield f'<path class="{_kind(state, to)}" d="{_way(state, to)}"><title>{state} to {to}</title></path>'


def _kind(state: State, to: State) -> str:
    if to is State.FAILED:
        return "arrow fails"
    return "arrow person" if state is State.FAILED or to is State.CANCELLING else "arrow"


def _way(state: State, to: State) -> str:
    """Return the line from one state to another: straight where they face each other, else round those between."""
    start, end = BOXES[state], BOXES[to]
    aside = ASIDE if state in TRANSITIONS[to] else 0
    if start.left != end.left:
        lower = min(start.bottom, end.bottom)
        if max(start.top, end.top) >= lower:
            message = f"`{state}` and `{to}` do not face each other"
            raise ValueError(message)
        if start.left < end.left:
            return f"M{start.right} {_level(start, end) - aside}H{end.left}"
        return f"M{start.left} {_level(start, end) + aside}H{end.right}"
    between = sorted((start.top, end.top))
    if any(box.left == start.left and between[0] < box.top < between[1] for box in BOXES.values()):
        out, first, last = start.left - DETOUR, start.top + 12, end.bottom - 12
        up = f"H{out + 8}Q{out} {first} {out} {first - 8}V{last + 8}Q{out} {last} {out + 8} {last}"
        return f"M{start.left} {first}{up}H{end.left}"
    middle = start.middle[0]
    if start.top < end.top:
        return f"M{middle + aside} {start.bottom}V{end.top}"
    return f"M{middle - aside} {start.top}V{end.bottom}"


def _level(start: Box, end: Box) -> int:
    smaller = min(start, end, key=lambda box: box.height)
    return smaller.middle[1] if smaller.height == _HIGH else max(start.top, end.top) + 22


def _box(state: State) -> str:
    box = BOXES[state]
    kind = {State.FAILED: "stop", State.CANCELLING: "back"}.get(state, "over" if state in OVER else "box")
    across, down = box.middle
    first = down - (len(box.says) * LINE) // 2 + 4
    lines = [
        f'<text class="says" x="{across}" y="{first + LINE * number}" text-anchor="middle">{text}</text>'
        for number, text in enumerate(box.says, start=1)
    ]
    return "\n".join(
        (
            f'<rect class="{kind}" x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}" rx="7"/>',
            f'<text class="name" x="{across}" y="{first}" text-anchor="middle">{state}</text>',
            *lines,
        )
    )


def _remarks() -> Iterator[str]:
    begun = BOXES[State.BEGUN]
    yield f'<path class="arrow" d="M{begun.middle[0]} 64V{begun.top}"/>'
    yield f'<path class="swap" d="M{_LEFT - DETOUR} {SWAP}H588"/>'
    for kind, down in LEGEND:
        yield f'<path class="{kind}" d="M24 {down}H60"/>'
    for across, down, anchor, text in WORDS:
        yield f'<text class="says" x="{across}" y="{down}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    sys.stdout.write(render())
