"""The handle of a backend, over one in memory: what it does for every store alike."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from securecfg.backends import Capabilities, Changes, Deletion, Kind, OpenBackend, State, StoredVersion, open_backend
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendUnavailable,
    CommitUnknown,
    InvalidMetadata,
    InvalidPath,
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    Unsupported,
    UsageError,
    ValueTooLarge,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import HASTY, BackendConformance, BackendFault, plain
from securecfg.testing.memory_backend import ALL, MemoryBackend, MemoryStore
from tests.keys.test_tracebacks import library_locals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.backends import Backend

CANARY = "canary-value-4711"


def raising(error: BaseException) -> Callable[[], None]:
    """Return what raises an error."""

    def fault() -> NoReturn:
        raise error

    return fault


UNAVAILABLE = raising(BackendUnavailable("gave no answer"))
NOT_REACHED = raising(BackendNotReached("cannot be reached"))
FAULTS: dict[BackendFault, Callable[[], None]] = {
    BackendFault.UNREACHABLE: NOT_REACHED,
    BackendFault.RESET: UNAVAILABLE,
    BackendFault.CUT_OFF: UNAVAILABLE,
    BackendFault.SILENT: lambda: time.sleep(3),
    BackendFault.BROKEN: UNAVAILABLE,
    BackendFault.NONSENSE: raising(ValueError(CANARY)),
    BackendFault.THROTTLED: NOT_REACHED,
    BackendFault.EXPIRED: raising(BackendLoginRefused("expired")),
    BackendFault.DENIED: raising(BackendDenied("denied")),
}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def backend(store: MemoryStore) -> OpenBackend:
    return OpenBackend(MemoryBackend(store), HASTY)


def less(store: MemoryStore, **changed: Any) -> OpenBackend:  # noqa: ANN401 - any field
    """Return a handle of a store that can do less."""
    return OpenBackend(MemoryBackend(store, ALL._replace(**changed)), HASTY)


class TestMemoryBackend(BackendConformance):
    many = 40

    @pytest.fixture(autouse=True)
    def _store(self, store: MemoryStore) -> None:
        self._place = store

    def backend(self) -> Backend:
        return MemoryBackend(self._place)

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        if fault is BackendFault.CUT_OFF and times is not None:
            for _ in range(times):
                self._place.fail_late(FAULTS[fault])
        elif fault is not None and times is not None:
            self._place.fail_next(*[FAULTS[fault]] * times)
        else:
            self._place.fail(FAULTS[fault] if fault else None)

    def asked(self) -> int:
        return self._place.asked

    def canaries(self) -> tuple[str, ...]:
        return ()


# --- 1: what the store cannot do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lacking", "call"),
    [
        ({"creates": False}, lambda backend: backend.write("a", "x", expect="")),
        ({"compares": False}, lambda backend: backend.write("a", "x", expect="1")),
        ({"metadata": False}, lambda backend: backend.write("a", "x", metadata={})),
        ({"keeps_versions": False}, lambda backend: backend.read("a", "1")),
        ({"writes": False}, lambda backend: backend.write("a", "x")),
        ({"deletes": Deletion.FINAL}, lambda backend: backend.recover("a")),
        ({"kinds": {Kind.BYTES, Kind.FIELDS}}, lambda backend: backend.write("a", "x")),
        ({"kinds": {Kind.TEXT, Kind.FIELDS}}, lambda backend: backend.write("a", b"x")),
        ({"kinds": {Kind.TEXT, Kind.BYTES}}, lambda backend: backend.write("a", {"a": "x"})),
    ],
)
def test_what_is_not_declared_is_unsupported_before_anything_is_sent(
    lacking: dict[str, Any], call: Callable[[OpenBackend], object], store: MemoryStore
) -> None:
    with pytest.raises(Unsupported) as refused:
        call(less(store, **lacking))
    assert refused.value.hint
    assert store.asked == 0


class _Bare:
    """A store that reads and lists, and no more."""

    scheme = "bare"
    name = ""
    capabilities = Capabilities(frozenset(Kind), 100, 100)

    def __init__(self, store: MemoryStore) -> None:
        whole = MemoryBackend(store, self.capabilities)
        self.read, self.list = whole.read, whole.list


@pytest.mark.parametrize(
    "call",
    [
        lambda backend: backend.write("a", "x"),
        lambda backend: backend.versions("a"),
        lambda backend: backend.watch(),
        lambda backend: backend.label("a", "canary", "1"),
        lambda backend: backend.delete("a"),
        lambda backend: backend.recover("a"),
    ],
)
def test_what_a_plug_in_has_no_method_for_is_unsupported(
    call: Callable[[OpenBackend], object], store: MemoryStore
) -> None:
    with pytest.raises(Unsupported) as refused:
        call(OpenBackend(_Bare(store)))
    assert refused.value.message.startswith("`bare:` ")
    assert store.asked == 0


def test_many_calls_are_made_eight_at_a_time(store: MemoryStore) -> None:
    backend = OpenBackend(_Bare(store), HASTY)
    for path in "abcdefgh":
        OpenBackend(MemoryBackend(store)).write(path, path)
    together = threading.Barrier(8)
    store.fail(lambda: together.wait(5))  # each waits for all others
    assert list(backend.read_many("abcdefgh")) == list("abcdefgh")


def test_of_many_calls_one_that_fails_fails_all(store: MemoryStore) -> None:
    store.fail(raising(BackendDenied("no")))
    for backend in (OpenBackend(_Bare(store), HASTY), OpenBackend(MemoryBackend(store), HASTY)):
        with pytest.raises(BackendDenied):
            backend.read_many([str(number) for number in range(30)])


def test_where_one_call_reads_one_secret_each_is_read_by_itself(store: MemoryStore) -> None:
    backend = OpenBackend(_Bare(store))
    for path in "abc":
        OpenBackend(MemoryBackend(store)).write(path, path)
    assert list(backend.read_many(["c", "none", "a", "c"])) == ["c", "a"]


# --- 2: what is given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [1, None, [], {}, {"": "x"}, {"a": 1}, {1: "x"}, {"a": {"b": "c"}}, "\ud800", {"a": "\ud800"}]
)
def test_what_is_no_value_is_refused(value: Any, backend: OpenBackend, store: MemoryStore) -> None:  # noqa: ANN401 - the point
    with pytest.raises(UsageError):
        backend.write("a", value)
    assert store.asked == 0


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (Secret("x"), "x"),
        (bytearray(b"x"), b"x"),
        ({"a": Secret("x"), "b": Secret(b"y")}, {"a": "x", "b": b"y"}),
    ],
)
def test_secrets_are_taken_too(value: Any, held: object, backend: OpenBackend) -> None:  # noqa: ANN401 - each kind
    backend.write("a", value)
    assert plain(backend.read("a")) == held


@pytest.mark.parametrize("version", ["", "a\n", "x" * 1_025])
def test_what_names_no_version_is_refused(version: str, backend: OpenBackend, store: MemoryStore) -> None:
    for call in (lambda: backend.read("a", version), lambda: backend.label("a", "canary", version)):
        with pytest.raises(UsageError):
            call()
    assert store.asked == 0


@pytest.mark.parametrize("label", ["", "a\n", "x" * 1_025])
def test_what_is_no_label_is_refused(label: str, backend: OpenBackend, store: MemoryStore) -> None:
    with pytest.raises(InvalidMetadata):
        backend.label("a", label, "1")
    assert store.asked == 0


@pytest.mark.parametrize("prefix", ["a", "/", "a//", "a/../"])
def test_what_is_no_folder_is_not_listed(prefix: str, backend: OpenBackend, store: MemoryStore) -> None:
    with pytest.raises(InvalidPath):
        backend.list(prefix)
    assert store.asked == 0


def test_fields_are_measured_together(store: MemoryStore) -> None:
    backend = less(store, value_bytes_max=10)
    backend.write("a", {"abc": "12", "ü": b"345"})
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"abc": "12", "ü": b"3456"})


def test_paths_are_measured(store: MemoryStore) -> None:
    backend = less(store, path_bytes_max=10)
    backend.write("ü" * 5, "x")
    with pytest.raises(InvalidPath):
        backend.write("ü" * 5 + "x", "x")


# --- 3: the call ------------------------------------------------------------------------------------------------------


def test_who_asks_the_same_at_the_same_time_shares_one_call(backend: OpenBackend, store: MemoryStore) -> None:
    backend.write("a", "x")
    store.asked = 0
    store.fail(lambda: time.sleep(0.3))
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda _: plain(backend.read("a")), range(10)))
    assert found == ["x"] * 10
    assert store.asked == 1
    backend.read("a")
    assert store.asked == 2


def test_writes_are_never_shared(backend: OpenBackend, store: MemoryStore) -> None:
    store.fail(lambda: time.sleep(0.1))
    with ThreadPoolExecutor(5) as pool:
        versions = set(pool.map(lambda _: backend.write("a", "x"), range(5)))
    assert len(versions) == len(backend.versions("a")) == 5


def test_a_call_that_hangs_is_left_behind(store: MemoryStore) -> None:
    backend = OpenBackend(MemoryBackend(store), Patience(0.2, (0.01,)))
    ended = threading.Event()
    store.fail(lambda: ended.wait(5))
    started = time.monotonic()
    for call in (lambda: backend.read("a"), backend.list, lambda: backend.versions("a")):
        with pytest.raises(BackendUnavailable) as late:
            call()
        assert "within 0.2 s" in late.value.message
    for change in (lambda: backend.write("a", "x"), lambda: backend.label("a", "b", "c"), lambda: backend.delete("a")):
        with pytest.raises(CommitUnknown):
            change()
    assert time.monotonic() - started < 5
    ended.set()


# --- 4: further attempts ----------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[OpenBackend], object]] = {
    "write": lambda backend: backend.write("a", "2"),
    "label": lambda backend: backend.label("a", "canary", backend.read("a").version.id),
    "delete": lambda backend: backend.delete("a"),
    "recover": lambda backend: backend.recover("a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_doubt_is_not_sent_again(change: str, store: MemoryStore) -> None:
    backend = less(store, is_write_repeatable=False)
    backend.write("a", "1")
    version = backend.read("a").version.id
    calls = CHANGES | {"label": lambda backend: backend.label("a", "canary", version)}
    store.asked = 0
    store.fail_late(UNAVAILABLE)
    with pytest.raises(CommitUnknown):
        calls[change](backend)
    assert store.asked == 1


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_was_not_taken_is_sent_again(change: str, store: MemoryStore) -> None:
    backend = less(store, is_write_repeatable=False)
    version = backend.write("a", "1")
    calls = CHANGES | {"label": lambda backend: backend.label("a", "canary", version)}
    store.asked = 0
    store.fail_next(NOT_REACHED, NOT_REACHED)
    calls[change](backend)
    assert store.asked == 3


def test_a_change_that_was_never_taken_is_not_in_doubt(backend: OpenBackend, store: MemoryStore) -> None:
    store.fail(NOT_REACHED)
    for change in CHANGES.values():
        with pytest.raises(BackendUnavailable) as away:
            change(backend)
        assert not isinstance(away.value, CommitUnknown)


def test_a_write_that_can_be_repeated_is_made_once(backend: OpenBackend, store: MemoryStore) -> None:
    store.fail_late(UNAVAILABLE)
    store.fail_late(UNAVAILABLE)
    version = backend.write("a", "1")
    assert store.asked == 3
    assert [each.id for each in backend.versions("a")] == [version]


def test_a_write_that_can_be_repeated_stays_in_doubt_where_no_answer_comes(
    backend: OpenBackend, store: MemoryStore
) -> None:
    store.fail_next(UNAVAILABLE, NOT_REACHED, NOT_REACHED)
    with pytest.raises(CommitUnknown):
        backend.write("a", "1")


@pytest.mark.parametrize(
    "refusal", [StaleWrite("s"), BackendDenied("d"), BackendLoginRefused("l"), SecretNotFound("n")]
)
def test_a_refusal_after_an_attempt_in_doubt_says_nothing_of_that(
    refusal: SecurecfgError, backend: OpenBackend, store: MemoryStore
) -> None:
    store.fail_next(UNAVAILABLE, raising(refusal))
    with pytest.raises(CommitUnknown):
        backend.write("a", "1")
    store.fail_next(NOT_REACHED, raising(refusal))
    with pytest.raises(type(refusal)):
        backend.write("a", "1")


def test_every_write_has_a_token_of_its_own_and_keeps_it(store: MemoryStore) -> None:
    tokens: list[str] = []

    class Noting(MemoryBackend):
        def write(self, path: str, content: Any, writing: Any) -> str:  # noqa: ANN401 - handed on
            tokens.append(writing.token)
            return super().write(path, content, writing)

    backend = OpenBackend(Noting(store), HASTY)
    backend.write("a", "1")
    store.fail_next(UNAVAILABLE, NOT_REACHED)
    backend.write("a", "1")
    assert tokens[0] != tokens[1] == tokens[2] == tokens[3]
    assert all(len(token) == 32 for token in tokens)


def test_further_attempts_are_logged_without_a_word_of_what_is_asked(
    backend: OpenBackend, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store.fail_next(UNAVAILABLE)
    backend.write("a/path/of/mine", CANARY)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("securecfg.backends", "INFO")
    assert "path" not in caplog.text
    assert CANARY not in caplog.text


# --- 5: what comes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError(CANARY), KeyError(CANARY), TimeoutError(CANARY), AssertionError(CANARY)])
def test_what_a_plug_in_raises_is_wrapped_without_its_text(
    error: Exception, backend: OpenBackend, store: MemoryStore
) -> None:
    store.fail(raising(error))
    for call in (lambda: backend.read("a"), backend.list, lambda: backend.read_many(["a"])):
        with pytest.raises(BackendUnavailable) as wrapped:
            call()
        shown: BaseException | None = wrapped.value
        while shown is not None:
            assert CANARY not in f"{shown}{shown!r}{getattr(shown, 'hint', '')}"
            shown = shown.__cause__
    with pytest.raises(CommitUnknown):
        backend.write("a", "x")


@pytest.mark.parametrize(
    "value",
    [CANARY, CANARY.encode(), {"a": CANARY}, [CANARY], {"a": [CANARY]}, CANARY + "\ud800", {"a": CANARY + "\ud800"}],
)
def test_a_traceback_that_shows_locals_shows_no_value(value: Any, store: MemoryStore) -> None:  # noqa: ANN401 - each kind
    small = less(store, value_bytes_max=5)
    refusing = OpenBackend(MemoryBackend(store), Patience(5, ()))
    store.fail(raising(BackendDenied("denied")))
    for backend in (small, refusing, less(store, kinds=frozenset())):
        with pytest.raises(SecurecfgError) as raised:
            backend.write("a", value)
        shown = library_locals(raised.value)
        assert shown
        assert CANARY not in shown


class _Nonsense(MemoryBackend):
    """Answers in the wrong kinds."""

    answer: Any = None

    def read(self, _path: str, _version: str | None) -> Any:  # noqa: ANN401 - the point
        return self.answer

    def read_many(self, _paths: object) -> Any:  # noqa: ANN401 - the point
        return {"a": self.answer}

    def list(self, _prefix: str) -> Iterator[Any]:
        yield self.answer

    def versions(self, _path: str) -> Iterator[Any]:
        yield self.answer

    def write(self, _path: str, _content: object, _writing: object) -> Any:  # noqa: ANN401 - the point
        return self.answer


@pytest.mark.parametrize("answer", [None, 1, [CANARY], {"a": CANARY}, Secret(CANARY)])
def test_a_plug_in_that_answers_nonsense_is_said_to_be_broken(answer: object, store: MemoryStore) -> None:
    plug_in = _Nonsense(store)
    plug_in.answer = answer
    backend = OpenBackend(plug_in, HASTY)
    for call in (
        lambda: backend.read("a"),
        lambda: backend.read_many(["a"]),
        backend.list,
        lambda: backend.versions("a"),
    ):
        with pytest.raises(BackendUnavailable) as broken:
            call()
        assert "mistake in the backend" in broken.value.hint
    with pytest.raises(CommitUnknown):
        backend.write("a", "x")


def test_what_nobody_asked_for_is_left_out(store: MemoryStore) -> None:
    class Generous(MemoryBackend):
        def read_many(self, paths: Any) -> Any:  # noqa: ANN401 - handed on
            return super().read_many([*paths, "b"])

    backend = OpenBackend(Generous(store), HASTY)
    for path in "ab":
        backend.write(path, path)
    assert list(backend.read_many(["a"])) == ["a"]


def test_names_that_are_no_paths_are_counted(store: MemoryStore) -> None:
    class Strange(MemoryBackend):
        def list(self, _prefix: str) -> Iterator[str]:
            yield from ("b", "", "a//b", "a", "b")

    assert OpenBackend(Strange(store)).list() == (["a", "b"], 2)


@pytest.mark.parametrize(
    ("state", "newest", "named"),
    [
        (State.DISABLED, VersionDisabled, VersionDisabled),
        (State.DELETED, SecretNotFound, VersionNotFound),
        (State.DESTROYED, SecretDestroyed, SecretDestroyed),
    ],
)
def test_each_state_of_a_version_has_its_error(
    state: State,
    newest: type[SecurecfgError],
    named: type[SecurecfgError],
    backend: OpenBackend,
    store: MemoryStore,
) -> None:
    version = backend.write("a", "x")
    store.set_state("a", version, state)
    assert [each.state for each in backend.versions("a")] == [state]
    with pytest.raises(SecurecfgError) as raised:
        backend.read("a")
    assert type(raised.value) is newest
    with pytest.raises(SecurecfgError) as raised:
        backend.read("a", version)
    assert type(raised.value) is named


def test_is_used_in_a_with_block_and_shows_its_store(store: MemoryStore) -> None:
    with open_backend(MemoryBackend(store)) as backend:
        assert repr(backend) == "OpenBackend('memory', 'of a test')"
        assert backend.name == "of a test"
        assert backend.capabilities == ALL


def test_the_newest_version_is_told_by_the_order(backend: OpenBackend) -> None:
    ids = [backend.write("a", text) for text in "123"]
    versions = backend.versions("a")
    assert [version.id for version in versions] == ids[::-1]
    assert all(isinstance(version, StoredVersion) for version in versions)


# --- watching ---------------------------------------------------------------------------------------------------------


def test_a_watch_that_breaks_goes_on_and_says_that_some_may_be_missed(store: MemoryStore) -> None:
    backend = OpenBackend(MemoryBackend(store), HASTY)
    watching = backend.watch()
    assert next(watching) == Changes((), is_whole=True)
    store.fail_next(UNAVAILABLE, UNAVAILABLE)
    assert next(watching) == Changes((), is_whole=False)
    backend.write("a", "x")
    assert next(watching) == Changes(("a",), is_whole=True)
    watching.close()


def test_a_watch_that_stays_broken_ends(store: MemoryStore) -> None:
    watching = OpenBackend(MemoryBackend(store), HASTY).watch()
    next(watching)
    store.fail(UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        next(watching)
    assert store.asked == 2 + len(HASTY.pauses_s)


def test_each_success_of_a_watch_gives_it_all_its_attempts_again(store: MemoryStore) -> None:
    watching = OpenBackend(MemoryBackend(store), HASTY).watch()
    for _ in range(4):
        store.fail_next(UNAVAILABLE, UNAVAILABLE)
        next(watching)


def test_a_watch_that_is_refused_is_not_begun_anew(store: MemoryStore) -> None:
    watching = OpenBackend(MemoryBackend(store), HASTY).watch()
    next(watching)
    store.fail(raising(BackendDenied("no")))
    with pytest.raises(BackendDenied):
        next(watching)
    assert store.asked == 2


@pytest.mark.parametrize("prefix", ["app", "/", "a//", "../"])
def test_what_is_no_folder_is_not_watched(prefix: str, store: MemoryStore) -> None:
    with pytest.raises(InvalidPath):
        OpenBackend(MemoryBackend(store)).watch(prefix)
    assert store.asked == 0


class _Ending(MemoryBackend):
    """A plug-in whose watch ends, or gives something else."""

    gives: tuple[Any, ...] = ()

    def watch(self, prefix: str) -> Iterator[Changes]:
        self._store.take()
        yield from self.gives


@pytest.mark.parametrize("gives", [(), ("a",), (("a",), None)])
def test_a_plug_in_whose_watch_ends_or_gives_something_else_is_unavailable(
    gives: tuple[Any, ...], store: MemoryStore
) -> None:
    ending = _Ending(store)
    ending.gives = gives
    with pytest.raises(BackendUnavailable):
        next(OpenBackend(ending, HASTY).watch())


def test_a_watch_that_is_closed_closes_that_of_the_plug_in(store: MemoryStore) -> None:
    closed = list[bool]()

    class Closing(MemoryBackend):
        def watch(self, prefix: str) -> Iterator[Changes]:
            try:
                yield from super().watch(prefix)
            finally:
                closed.append(True)

    watching = OpenBackend(Closing(store)).watch()
    next(watching)
    assert not closed
    watching.close()
    assert closed == [True]
