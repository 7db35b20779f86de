"""Which rotators there are, as far as that can be told without calling one."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import SecurecfgError
from securecfg.rotation.interface import Strategy
from securecfg.rotation.names import BUILT_IN, ENTRY_POINT_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = ("propose", "apply", "verify", "retire")


class Listed(NamedTuple):
    """A rotator that can be named.

    Attributes:
        name: The name.
        is_built_in: Whether it is one of this package.
        strategy: What becomes of the old credential; None where that is said by its options, or it is not usable.
        about: What it is for: the first line of what its module says of itself.
        failure: The name of what is wrong with it, where it cannot be loaded; else empty.
    """

    name: str
    is_built_in: bool
    strategy: Strategy | None = None
    about: str = ""
    failure: str = ""


def all_rotators() -> list[Listed]:
    """Return the rotators of this package, and those that others have registered, by name.

    The module of each is imported. What cannot be imported is listed as such: it is other people's code.
    """
    loads: dict[str, tuple[bool, Callable[[], object]]] = {
        each.name: (False, each.load) for each in entry_points(group=ENTRY_POINT_GROUP)
    }
    for name, module in BUILT_IN.items():
        loads[name] = (True, lambda module=module: import_module(module).from_options)  # type: ignore[misc]  # lambda default
    return [_look(name, is_built_in=is_built_in, load=load) for name, (is_built_in, load) in sorted(loads.items())]


def _look(name: str, *, is_built_in: bool, load: Callable[[], object]) -> Listed:
    try:
        factory = load()
    except SecurecfgError as error:
        return Listed(name, is_built_in, failure=error.code)
    except Exception as error:  # noqa: BLE001 - whatever the import of foreign code raises; its text is not shown
        return Listed(name, is_built_in, failure=type(error).__name__)
    module = sys.modules.get(getattr(factory, "__module__", ""))
    about = (getattr(module, "__doc__", None) or "").strip().partition("\n")[0].rstrip(".:")
    return Listed(name, is_built_in, _strategy_of(module), about)


def _strategy_of(module: object) -> Strategy | None:
    """Return the strategy of the rotators of a module, where all have the same whatever their options are."""
    rotators = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and all(hasattr(each, method) for method in _METHODS)
    ]
    found = {getattr(each, "strategy", None) for each in rotators}
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, Strategy) else None
