"""What is fetched once: people are asked once, descriptors can be read once, and programs cost what they cost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def once(load: Callable[[], T]) -> Callable[[], T]:
    """Return what loads at the first call, and gives the same at every other, from whatever thread.

    Where loading fails, the next call tries again.
    """
    loaded: list[T] = []
    lock = threading.Lock()

    def call() -> T:
        with lock:
            if not loaded:
                loaded.append(load())
            return loaded[0]

    return call
