"""Named tuples of our own making are those of `typing` in all that anyone can see of them."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import get_type_hints

import pytest

from securecfg import tuples


class Ours(tuples.NamedTuple):
    """A place.

    Attributes:
        path: Where.
    """

    path: str
    line: int = 1
    tags: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return f"{self.path}:{self.line}"

    @classmethod
    def at(cls, path: str) -> Ours:
        return cls(path, 2)

    def __str__(self) -> str:
        return self.shown


class Theirs(typing.NamedTuple):
    """A place.

    Attributes:
        path: Where.
    """

    path: str
    line: int = 1
    tags: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return f"{self.path}:{self.line}"

    @classmethod
    def at(cls, path: str) -> Theirs:
        return cls(path, 2)

    def __str__(self) -> str:
        return self.shown


BOTH = pytest.mark.parametrize("kind", [Ours, Theirs])


@BOTH
def test_takes_fields_by_place_and_by_name_with_defaults(kind: type[Ours]) -> None:
    assert kind("a") == kind(path="a", line=1, tags=()) == ("a", 1, ())
    assert kind("a", tags=("x",)) == ("a", 1, ("x",))
    assert kind._fields == ("path", "line", "tags")
    assert kind._field_defaults == {"line": 1, "tags": ()}
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'path'"):
        kind()  # type: ignore[call-arg]  # what is refused
    with pytest.raises(TypeError, match="unexpected keyword argument 'no'"):
        kind("a", no=1)  # type: ignore[call-arg]  # what is refused


@BOTH
def test_has_its_methods_its_words_and_its_place(kind: type[Ours]) -> None:
    one = kind.at("a")
    assert (one.shown, str(one), repr(one)) == ("a:2", "a:2", f"{kind.__name__}(path='a', line=2, tags=())")
    assert (kind.__doc__ or "").startswith("A place.\n")
    assert (kind.__module__, kind.__qualname__) == (__name__, kind.__name__)
    assert get_type_hints(kind) == {"path": str, "line": int, "tags": tuple[str, ...]}


@BOTH
def test_is_a_tuple_that_does_not_change(kind: type[Ours]) -> None:
    one = kind("a")
    assert kind.__mro__ == (kind, tuple, object)
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.line = 3  # type: ignore[misc]  # what is refused
    assert one._replace(line=3) == ("a", 3, ())
    assert one._asdict() == {"path": "a", "line": 1, "tags": ()}


@BOTH
def test_is_copied_pickled_and_matched(kind: type[Ours]) -> None:
    one = kind("a", 7)
    for again in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own
        assert type(again) is kind
        assert again == one
    match one:
        case kind(path, line=line):
            assert (path, line) == ("a", 7)


def test_has_what_theirs_has_and_nothing_else() -> None:
    assert set(vars(Ours)) == set(vars(Theirs)) - {"__orig_bases__"}
