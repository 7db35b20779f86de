# ruff: noqa: D102, PLR2004, S101 - a suite of tests: names are sentences, asserts are the point
"""What every backend must do; subclass `BackendConformance`, say how to make one, and let pytest run it.

A store that is asked over HTTP is put behind a `FaultyProxy` (`securecfg.testing.faulty_proxy`), so that it can fail.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING

import pytest

from securecfg.backends import Changes, Deletion, Kind, OpenBackend, State
from securecfg.backends.interface import Deletes, KeepsVersions, Labels, ReadsAtOnce, Recovers, Watches, Writes
from securecfg.errors import (
    AlreadyExists,
    BackendDenied,
    BackendLoginRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidPath,
    NotFound,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    Unsupported,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.patience import Patience
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.backends import Backend, Content, Found

THREADS = 32
WRITERS = 6
HASTY = Patience(deadline_s=20.0, pauses_s=(0.01, 0.01))
CANARY = "canary-value-4711"

TEXTS = ("plain", "Grüße 🔑", " spaces and\nlines\t", "[1, 2]", '{"a": {"b": "c"}}', '"quoted"', "null", "0")
FIELDS = ({"user": "web", "password": "hunter2"}, {"ключ": "значение", "empty": ""}, {"a": '{"b": "c"}'})
PATHS = (
    "a",
    "app/db/main",
    "with space/x",
    "Upper/lower/x",
    "upper/lower/x",
    "dots.and-dashes_and/123",
    "plus+tilde~/x",
    "percent%41/x",
    "double--dash/x",
    "под/ключ",
    "x" * 200 + "/y",
)


class BackendFault(StrEnum):
    """What a store may do instead of what it was asked.

    Attributes:
        UNREACHABLE: Nobody is at its address.
        RESET: It takes the request and breaks off the connection.
        CUT_OFF: It does what it was asked, and the answer breaks off in the middle.
        SILENT: It accepts what it is asked and never answers.
        BROKEN: It reports an error of its own (500).
        NONSENSE: Its answer makes no sense.
        THROTTLED: It has been asked too often, and refuses before it does anything.
        EXPIRED: It takes the credentials for none any more.
        DENIED: It does not let them do this.
    """

    UNREACHABLE = "unreachable"
    RESET = "reset"
    CUT_OFF = "cut-off"
    SILENT = "silent"
    BROKEN = "broken"
    NONSENSE = "nonsense"
    THROTTLED = "throttled"
    EXPIRED = "expired"
    DENIED = "denied"


ERRORS: dict[BackendFault, type[SecurecfgError]] = {
    **dict.fromkeys(BackendFault, BackendUnavailable),
    BackendFault.EXPIRED: BackendLoginRefused,
    BackendFault.DENIED: BackendDenied,
}
PASSING = (BackendFault.RESET, BackendFault.CUT_OFF, BackendFault.BROKEN, BackendFault.THROTTLED)
AMBIGUOUS = (BackendFault.RESET, BackendFault.CUT_OFF)


def plain(found: Found) -> Content:
    """Return the value of what was found, as it was given."""
    value = found.value
    return value.reveal() if isinstance(value, Secret) else {name: part.reveal() for name, part in value.items()}


class BackendConformance:
    """The suite; `backend`, `fail`, `asked` and `canaries` are for the subclass to define.

    So is `put` where the store is only read.

    Attributes:
        many: How many secrets make several pages of a listing.
    """

    many = 1_050

    def backend(self) -> Backend:
        """Return a backend; in one test every call returns another object of the same place, which was empty."""
        raise NotImplementedError

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        """Let the store show a fault from now on or for the next requests, or none any more.

        Where there can be no such fault, call `pytest.skip` with a reason that begins with `not applicable: `.
        """
        raise NotImplementedError

    def fail_change(self, fault: BackendFault) -> None:
        """Let the store show a fault for the next request that changes something.

        That is the next one, unless the subclass knows better: a write may have to look before it writes.
        """
        self.fail(fault, times=1)

    def asked(self) -> int:
        """Return how many requests the store has been sent so far."""
        raise NotImplementedError

    def canaries(self) -> tuple[str, ...]:
        """Return what no error, repr or log line may contain besides the values: tokens, keys."""
        raise NotImplementedError

    def put(self, backend: OpenBackend, path: str, content: Content) -> str:
        """Write a secret and return its version's id: through a handle, or in another way where it is only read.

        Raises:
            InvalidPath, Unsupported: The store can hold no such path, or no such value.
        """
        return backend.write(path, content)

    def fill(self, count: int) -> None:
        """Make that many secrets `many/NUMBER` quickly; one by one unless the subclass knows better."""
        backend = self.open()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: self.put(backend, f"many/{number:05}", "x"), range(count)))

    def open(self) -> OpenBackend:
        """Return a handle, as users have one."""
        return OpenBackend(self.backend(), HASTY)

    def _needs(self, can: object, what: str) -> None:
        if not can:
            pytest.skip(f"not applicable: {what}")

    # --- what it declares ---------------------------------------------------------------------------------------------

    def test_names_its_scheme_and_its_store(self) -> None:
        backend = self.backend()
        assert backend.scheme.isascii()
        assert backend.scheme == backend.scheme.lower()
        assert backend.name.isprintable()

    def test_what_it_declares_is_what_it_has(self) -> None:
        backend = self.backend()
        can = backend.capabilities
        assert can.kinds
        assert isinstance(backend, Writes) == can.writes
        assert isinstance(backend, KeepsVersions) == can.keeps_versions
        assert isinstance(backend, Labels) == can.labels
        assert isinstance(backend, Deletes) == (can.deletes is not Deletion.NONE)
        assert isinstance(backend, Recovers) == (can.deletes is Deletion.SOFT)
        assert isinstance(backend, ReadsAtOnce) == (can.reads_at_once > 1)
        assert isinstance(backend, Watches) == can.watches

    def test_nothing_is_sent_until_it_is_asked(self) -> None:
        before = self.asked()
        _ = self.open().capabilities
        assert self.asked() == before

    def test_what_it_cannot_do_is_refused_before_anything_is_sent(self) -> None:
        backend, before = self.open(), self.asked()
        can = backend.capabilities
        refused: list[tuple[bool, Callable[[], object]]] = [
            (can.writes, lambda: backend.write("a", self._value())),
            (can.creates, lambda: backend.write("a", self._value(), expect="")),
            (can.compares, lambda: backend.write("a", self._value(), expect="1")),
            (can.metadata, lambda: backend.write("a", self._value(), metadata={"owner": "pay"})),
            (can.keeps_versions, lambda: backend.read("a", "1")),
            (can.keeps_versions, lambda: backend.versions("a")),
            (can.labels, lambda: backend.label("a", "canary", "1")),
            (can.deletes is not Deletion.NONE, lambda: backend.delete("a")),
            (can.deletes is Deletion.SOFT, lambda: backend.recover("a")),
            (can.watches, backend.watch),
            (Kind.TEXT in can.kinds, lambda: backend.write("a", "text")),
            (Kind.BYTES in can.kinds, lambda: backend.write("a", b"bytes")),
            (Kind.FIELDS in can.kinds, lambda: backend.write("a", {"a": "b"})),
        ]
        for is_able, call in refused:
            if not is_able:
                with pytest.raises(Unsupported):
                    call()
        assert self.asked() == before

    # --- values -------------------------------------------------------------------------------------------------------

    def _value(self, text: str = "1") -> Content:
        kinds = self.backend().capabilities.kinds
        if Kind.TEXT in kinds:
            return text
        return text.encode() if Kind.BYTES in kinds else {"value": text}

    @pytest.mark.parametrize("text", TEXTS)
    def test_text_comes_back_in_every_character_or_is_refused(self, text: str) -> None:
        self._comes_back_or_is_refused(text, Kind.TEXT)

    @pytest.mark.parametrize("content", [b"\x00", bytes(range(256)), b"text"], ids=["zero", "all", "text"])
    def test_bytes_come_back_or_are_refused(self, content: bytes) -> None:
        self._comes_back_or_is_refused(content, Kind.BYTES)

    @pytest.mark.parametrize("fields", FIELDS, ids=["plain", "unicode", "json"])
    def test_fields_come_back_or_are_refused(self, fields: dict[str, str]) -> None:
        self._comes_back_or_is_refused(fields, Kind.FIELDS)

    def test_a_text_that_looks_like_fields_comes_back_as_text_or_is_refused(self) -> None:
        backend = self.open()
        text = '{"user":"web","password":"hunter2"}'
        try:
            self.put(backend, "a", text)
        except Unsupported:
            with pytest.raises(SecretNotFound):
                backend.read("a")
        else:
            assert plain(backend.read("a")) == text

    def test_bytes_among_fields_come_back_or_are_refused(self) -> None:
        self._comes_back_or_is_refused({"a": "text", "b": b"\x00\xff"}, Kind.FIELDS)

    def test_the_longest_value_comes_back_and_one_byte_more_is_refused(self) -> None:
        backend = self.open()
        most = backend.capabilities.value_bytes_max
        self._needs(Kind.TEXT in backend.capabilities.kinds and most <= 1 << 22, "no text, or no limit of its own")
        self.put(backend, "a", "x" * most)
        assert plain(backend.read("a")) == "x" * most
        before = self.asked()
        for more in ("x" * (most + 1), "é" * (most // 2) + "xx"):
            with pytest.raises(ValueTooLarge if backend.capabilities.writes else Unsupported):
                backend.write("b", more)
        assert self.asked() == before

    def _comes_back_or_is_refused(self, content: Content, kind: Kind) -> None:
        backend = self.open()
        if kind not in backend.capabilities.kinds:
            with pytest.raises(Unsupported):
                backend.write("a", content)
            return
        try:
            version = self.put(backend, "a", content)
        except Unsupported:
            with pytest.raises(SecretNotFound):
                backend.read("a")
            return
        found = backend.read("a")
        assert plain(found) == content
        assert found.version.id == version
        assert found.version.state is State.LIVE

    # --- paths --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", PATHS)
    def test_a_path_is_held_as_it_is_or_refused(self, path: str) -> None:
        backend = self.open()
        try:
            self.put(backend, path, self._value())
        except InvalidPath:
            with pytest.raises(InvalidPath):
                backend.read(path)
            return
        assert plain(backend.read(path)) == self._value()
        assert backend.list().paths == [path]

    def test_paths_that_are_alike_are_two_or_one_is_refused(self) -> None:
        backend = self.open()
        held = []
        for path in ("alike/a-b", "alike/a--b", "alike/a/b", "alike/a_b", "alike/A-B", "alike/a.b", "alike/a%2Fb"):
            try:
                self.put(backend, path, self._value(path))
            except InvalidPath:
                continue
            held.append(path)
        assert {path: plain(backend.read(path)) for path in held} == {path: self._value(path) for path in held}
        assert backend.list().paths == sorted(held)

    @pytest.mark.parametrize("path", ["", "/a", "a//b", "a/../b", "a#b", "a\n", "x" * 1_025])
    def test_what_is_no_path_is_refused_before_anything_is_sent(self, path: str) -> None:
        backend, before = self.open(), self.asked()
        for call in (lambda: backend.read(path), lambda: backend.write(path, self._value())):
            with pytest.raises(InvalidPath):
                call()
        assert self.asked() == before

    # --- reading and writing ------------------------------------------------------------------------------------------

    def test_what_is_not_there_is_not_found(self) -> None:
        backend = self.open()
        with pytest.raises(SecretNotFound):
            backend.read("none/there")
        self.put(backend, "app/db/main", self._value())
        for path in ("app", "app/db", "app/db/main/deeper", "app/db/mai", "app/db/main2"):
            with pytest.raises(SecretNotFound):
                backend.read(path)

    def test_the_newest_value_is_read(self) -> None:
        backend, other = self.open(), self.open()
        versions = [self.put(backend, "a", self._value(str(number))) for number in range(3)]
        assert plain(other.read("a")) == self._value("2")
        assert other.read("a").version.id == versions[-1]

    def test_versions_are_listed_newest_first_and_read_by_their_ids(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.keeps_versions, "it keeps no earlier versions")
        versions = [self.put(backend, "a", self._value(str(number))) for number in range(3)]
        assert [version.id for version in backend.versions("a")] == versions[::-1]
        assert [plain(backend.read("a", version)) for version in versions] == [self._value(str(n)) for n in range(3)]
        for version in backend.versions("a"):
            assert version.created is None or version.created.utcoffset() is not None

    def test_a_version_that_is_not_there_is_not_found(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.keeps_versions, "it keeps no earlier versions")
        self.put(backend, "a", self._value())
        with pytest.raises(VersionNotFound):
            backend.read("a", "no-such-version-there")
        with pytest.raises(SecretNotFound):
            backend.versions("b")

    def test_listings_are_of_all_that_begins_with_a_prefix(self) -> None:
        backend = self.open()
        for path in ("a", "app/a", "app/db/main", "app/db/second", "apple/x"):
            self.put(backend, path, self._value())
        assert backend.list().paths == ["a", "app/a", "app/db/main", "app/db/second", "apple/x"]
        assert backend.list("app/").paths == ["app/a", "app/db/main", "app/db/second"]
        assert backend.list("app/db/").paths == ["app/db/main", "app/db/second"]
        assert backend.list("none/").paths == []

    def test_listings_of_many_pages_are_whole(self) -> None:
        self.fill(self.many)
        backend = self.open()
        assert backend.list().paths == [f"many/{number:05}" for number in range(self.many)]
        assert backend.list("many/").paths == [f"many/{number:05}" for number in range(self.many)]

    def test_many_secrets_are_read_in_as_few_calls_as_the_store_allows(self) -> None:
        backend = self.open()
        paths = [f"app/{number}" for number in range(25)]
        for path in paths:
            self.put(backend, path, self._value(path))
        before = self.asked()
        found = backend.read_many([*paths, "none/there"])
        assert {path: plain(each) for path, each in found.items()} == {path: self._value(path) for path in paths}
        size = backend.capabilities.reads_at_once
        if size > 1:
            assert self.asked() - before == -(-26 // size)

    def test_metadata_come_back_and_stay_until_others_are_given(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.metadata, "it holds no metadata")
        backend.write("a", self._value("1"), metadata={"owner": "pay", "note": "Grüße"})
        backend.write("a", self._value("2"))
        assert backend.read("a").metadata == {"owner": "pay", "note": "Grüße"}
        backend.write("a", self._value("3"), metadata={"owner": "web"})
        assert backend.read("a").metadata == {"owner": "web"}

    # --- what the writer expects --------------------------------------------------------------------------------------

    def test_who_expects_nothing_writes_only_where_there_is_nothing(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.creates, "it cannot write only where there is nothing")
        version = backend.write("a", self._value("1"), expect="")
        with pytest.raises(AlreadyExists):
            backend.write("a", self._value("2"), expect="")
        assert backend.read("a").version.id == version

    def test_who_expects_a_version_writes_only_on_that(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.compares, "it cannot compare")
        first = backend.write("a", self._value("1"))
        second = backend.write("a", self._value("2"), expect=first)
        with pytest.raises(StaleWrite):
            backend.write("a", self._value("3"), expect=first)
        with pytest.raises((StaleWrite, SecretNotFound)):
            backend.write("b", self._value("3"), expect=first)
        assert backend.read("a").version.id == second
        with pytest.raises(SecretNotFound):
            backend.read("b")

    def test_of_many_who_create_one_path_one_does(self) -> None:
        self._needs(self.open().capabilities.creates, "it cannot write only where there is nothing")
        self._one_wins("", AlreadyExists)

    def test_of_many_who_saw_one_version_one_writes(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.compares, "it cannot compare")
        self._one_wins(backend.write("a", self._value("0")), StaleWrite)

    def _one_wins(self, expect: str, refusal: type[SecurecfgError]) -> None:
        together = threading.Barrier(WRITERS)

        def write(number: int) -> bool:
            backend = self.open()
            together.wait()
            try:
                backend.write("a", self._value(str(number)), expect=expect)
            except refusal:
                return False
            return True

        with ThreadPoolExecutor(WRITERS) as pool:
            won = list(pool.map(write, range(1, WRITERS + 1)))
        assert won.count(True) == 1
        assert plain(self.open().read("a")) == self._value(str(won.index(True) + 1))

    # --- labels and deletion ------------------------------------------------------------------------------------------

    def test_a_label_points_at_a_version_until_it_is_moved_or_taken_away(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.labels, "it has no labels")
        first, second = (self.put(backend, "a", self._value(text)) for text in ("1", "2"))
        backend.label("a", "canary", first)
        assert plain(backend.read("a", "canary")) == self._value("1")
        assert "canary" in next(each.labels for each in backend.versions("a") if each.id == first)
        backend.label("a", "canary", second)
        assert plain(backend.read("a", "canary")) == self._value("2")
        backend.label("a", "canary", None)
        with pytest.raises(VersionNotFound):
            backend.read("a", "canary")
        with pytest.raises(NotFound):
            backend.label("a", "canary", "no-such-version-there")

    def test_what_is_deleted_is_not_there(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.deletes is not Deletion.NONE, "it deletes nothing")
        backend.write("app/a", self._value())
        backend.write("app/b", self._value())
        backend.delete("app/a")
        with pytest.raises(SecretNotFound):
            backend.read("app/a")
        assert backend.list().paths == ["app/b"]
        assert list(backend.read_many(["app/a", "app/b"])) == ["app/b"]
        if backend.capabilities.keeps_versions:
            with pytest.raises(SecretNotFound):
                backend.versions("app/a")
        with pytest.raises(SecretNotFound):
            backend.delete("none/there")

    def test_what_is_deleted_comes_back(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.deletes is Deletion.SOFT, "what it deletes is gone")
        version = backend.write("a", self._value())
        backend.delete("a")
        backend.recover("a")
        assert plain(backend.read("a")) == self._value()
        assert backend.read("a").version.id == version
        assert backend.list().paths == ["a"]
        backend.recover("a")
        with pytest.raises(SecretNotFound):
            backend.recover("none/there")

    # --- watching -----------------------------------------------------------------------------------------------------

    def test_what_changes_is_seen(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.watches, "it does not say what changes")
        self.put(backend, "app/before", self._value())
        watching = backend.watch("app/")
        assert next(watching) == Changes((), is_whole=True)
        self.put(backend, "app/a", self._value())
        self.put(backend, "other/a", self._value())
        self.put(backend, "app/b", self._value())
        self._sees(watching, {"app/a", "app/b"})
        self.put(backend, "app/a", self._value("2"))
        self._sees(watching, {"app/a"})
        if backend.capabilities.deletes is not Deletion.NONE:
            backend.delete("app/b")
            self._sees(watching, {"app/b"})
        watching.close()

    def _sees(self, watching: Iterator[Changes], wanted: set[str]) -> None:
        seen = set[str]()
        while not wanted <= seen:
            changes = next(watching)
            assert changes.is_whole
            seen |= set(changes.paths)
        assert seen == wanted

    # --- threads and processes ----------------------------------------------------------------------------------------

    def test_one_object_serves_many_threads(self) -> None:
        backend = self.open()
        self.put(backend, "a", self._value())
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda _: plain(backend.read("a")), range(THREADS)))
        assert found == [self._value()] * THREADS

    def test_a_forked_child_has_a_client_of_its_own(self) -> None:
        backend = self.open()
        self.put(backend, "a", self._value())
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if plain(backend.read("a")) == self._value() else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert plain(backend.read("a")) == self._value()

    # --- faults -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [fault for fault in BackendFault if fault is not BackendFault.SILENT])
    def test_each_fault_has_its_error(self, fault: BackendFault) -> None:
        backend = OpenBackend(self.backend(), Patience(20.0, ()))
        self.put(backend, "a", self._value())
        self.fail(fault)
        for call in (lambda: backend.read("a"), backend.list):
            with pytest.raises(ERRORS[fault]) as raised:
                call()
            self._tells_nothing(str(raised.value) + raised.value.hint + repr(raised.value))

    def test_a_store_that_never_answers_is_left_behind(self) -> None:
        backend = OpenBackend(self.backend(), Patience(0.5, (0.1,)))
        self.put(self.open(), "a", self._value())
        self.fail(BackendFault.SILENT)
        with pytest.raises(BackendUnavailable):
            backend.read("a")
        with pytest.raises(CommitUnknown if backend.capabilities.writes else Unsupported):
            backend.write("a", self._value())

    @pytest.mark.parametrize("fault", PASSING)
    def test_what_passes_is_asked_again(self, fault: BackendFault) -> None:
        backend = self.open()
        self.put(backend, "a", self._value())
        self.fail(fault, times=2)
        assert plain(backend.read("a")) == self._value()
        self.fail(fault, times=2)
        assert backend.list().paths == ["a"]

    @pytest.mark.parametrize("fault", AMBIGUOUS)
    def test_a_write_without_an_answer_is_made_once_or_said_to_be_in_doubt(self, fault: BackendFault) -> None:
        backend = self.open()
        can = backend.capabilities
        self._needs(can.writes, "it is only read")
        first = backend.write("a", self._value("1"))
        self.fail_change(fault)
        try:
            backend.write("a", self._value("2"))
        except CommitUnknown:
            assert not can.is_write_repeatable
            assert plain(backend.read("a")) in (self._value("1"), self._value("2"))
        else:
            assert can.is_write_repeatable
            assert plain(backend.read("a")) == self._value("2")
        if can.keeps_versions:
            assert len(backend.versions("a")) <= 2
            assert backend.versions("a")[-1].id == first

    def test_a_write_that_was_refused_before_it_was_taken_is_made_again(self) -> None:
        backend = self.open()
        self._needs(backend.capabilities.writes, "it is only read")
        self.fail(BackendFault.THROTTLED, times=2)
        backend.write("a", self._value())
        assert plain(backend.read("a")) == self._value()

    # --- what nobody may see ------------------------------------------------------------------------------------------

    def test_no_log_line_error_or_repr_shows_a_value_or_a_token(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        backend = self.open()
        self.put(backend, "a", self._value(CANARY))
        shown = [repr(backend), repr(self.backend()), repr(backend.read("a")), repr(backend.list())]
        self.fail(BackendFault.DENIED)
        for call in (lambda: backend.read("a"), lambda: backend.write("a", self._value(CANARY))):
            with pytest.raises(SecurecfgError) as raised:
                call()
            error: BaseException | None = raised.value
            while error is not None:
                shown.append(f"{error} {error!r} {getattr(error, 'hint', '')}")
                error = error.__cause__ or error.__context__
        self._tells_nothing("\n".join([*shown, caplog.text]))

    def _tells_nothing(self, text: str) -> None:
        for canary in (CANARY, *self.canaries()):
            assert canary not in text
