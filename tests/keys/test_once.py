from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from securecfg.keys.once import once


def test_loads_once_however_many_threads_wait() -> None:
    loads: list[int] = []

    def load() -> int:
        time.sleep(0.05)
        loads.append(1)
        return len(loads)

    call = once(load)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: call(), range(16))) == {1}


def test_nothing_is_loaded_before_the_first_call_and_a_failure_is_not_kept() -> None:
    answers = [ValueError, 7]

    def load() -> object:
        answer = answers.pop(0)
        if answer is ValueError:
            raise ValueError
        return answer

    call = once(load)
    assert len(answers) == 2
    with pytest.raises(ValueError, match=r"^$"):
        call()
    assert [call(), call()] == [7, 7]


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_that_it_lacks() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load() -> int:
        if not begun.is_set():
            begun.set()
            go_on.wait(30)
        return os.getpid()

    call = once(load)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(call)
        begun.wait(30)
        child = os.fork()
        if child == 0:
            # The child must not go on as a second test run, nor hang for ever.
            threading.Timer(20, os._exit, (3,)).start()
            try:
                os._exit(0 if call() == os.getpid() else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        assert loading.result() == os.getpid()
