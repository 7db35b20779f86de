"""What is fetched once: people are asked once, descriptors can be read once, and programs cost what they cost."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def once(load: Callable[[], T]) -> Callable[[], T]:
    """Return what loads at the first call, and gives the same at every other, from whatever thread or forked child.

    Where loading fails, the next call tries again.
    """
    loaded: list[T] = []
    locks: dict[int, threading.Lock] = {}

    def call() -> T:
        if not loaded:
            # A lock for each process: a child may have been forked while a thread that it lacks was loading.
            with locks.setdefault(os.getpid(), threading.Lock()):
                if not loaded:
                    loaded.append(load())
        return loaded[0]

    return call
