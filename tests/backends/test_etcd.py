"""What is special to keys of etcd: URIs, logins, values, revisions and compaction, pages, watches, refusals."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from securecfg.backends import Changes, Deletion, Kind, open_backend
from securecfg.backends import etcd_keys as keys_module
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidBackendUri,
    SecretNotFound,
    SecurecfgError,
    SettingMissing,
    StaleWrite,
    Unsupported,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.backend_conformance import plain
from securecfg.testing.faulty_proxy import Answer, CutOff, Reset
from tests.backends.etcd_cluster import etcd_keys, etcd_server, refusal
from tests.keys.certificates import make_certificates
from tests.keys.key_service import closed_port, run_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.backends import OpenBackend
    from tests.backends.etcd_cluster import Etcd, Keys

HASTY = Patience(deadline_s=10.0, pauses_s=(0.01, 0.01))
ONCE = Patience(deadline_s=10.0, pauses_s=())
QUICK_S = 0.1
HEADER = b'{"header":{"revision":"7"}'


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with etcd_server() as etcd:
        yield etcd


@pytest.fixture
def keys(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    with etcd_keys(etcd, monkeypatch) as keys:
        yield keys


@pytest.fixture
def backend(keys: Keys) -> OpenBackend:
    return opened(keys)


def opened(keys: Keys, options: str = "", patience: Patience = HASTY) -> OpenBackend:
    return open_backend(f"etcd:{keys.folder}?{options}".rstrip("?"), patience=patience)


def logins(keys: Keys) -> int:
    return keys.methods.count("auth/authenticate")


# --- URIs and settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "//",
        "a//b",
        "a/../b",
        "..",
        "a#b",
        "a%0A",
        "?password=canary",
        "?token=canary",
        "?user=",
        "?history=no",
        "?endpoint=http://canary.test:2379",
        "?endpoint=https://user:canary@etcd.test",
        "?endpoint=https://a.test,http://canary.test",
        "?endpoint=canary.test:2379",
        "?key=/k",
        "?file=/p",
        "?env=P",
        "?user=a:canary",
        "?user=a&file=/p&env=P",
        "?user=a&env=not-a-name",
    ],
)
def test_a_uri_that_says_something_else_is_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(InvalidBackendUri) as refused:
        open_backend(f"etcd:{rest}")
    assert "canary" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("rest", "first"), [("", ""), ("shop", "shop/"), ("shop/", "shop/"), ("/", "/"), ("/a/b", "/a/b/")]
)
def test_the_folder_stands_before_every_key_as_it_is(rest: str, first: str) -> None:
    backend = open_backend(f"etcd:{rest}")
    assert backend.name == first
    assert repr(backend) == f"OpenBackend('etcd', {first!r})"


def test_what_it_can_do(keys: Keys) -> None:
    can = opened(keys).capabilities
    assert can.kinds == frozenset(Kind)
    assert (can.creates, can.compares, can.keeps_versions, can.deletes) == (True, True, False, Deletion.FINAL)
    assert opened(keys, "history=yes").capabilities == can._replace(keeps_versions=True)


@pytest.mark.parametrize("endpoints", ["", " , ", "http://etcd.test:2379", "etcd.test:2379", "unix:///run/etcd"])
def test_an_address_that_is_not_known_or_not_safe_is_missing(
    endpoints: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", endpoints)
    with pytest.raises(SettingMissing) as refused:
        opened(keys).write("a", "x")
    assert "ETCDCTL_ENDPOINTS" in refused.value.hint


def test_endpoints_may_lack_a_scheme_and_be_several(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"127.0.0.1:{closed_port()}, {keys.proxy.url.removeprefix('http://')}")
    backend = opened(keys)
    backend.write("a", "x")
    assert plain(backend.read("a")) == "x"
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "")
    assert plain(opened(keys, f"endpoint={keys.proxy.url}").read("a")) == "x"


def test_naming_a_store_loads_no_connections() -> None:
    printed = run_python(
        "import sys\nimport securecfg\nfrom securecfg.backends import open_backend\n"
        "open_backend('etcd:shop')\nprint({'requests', 'urllib3', 'hvac', 'boto3'} & set(sys.modules))"
    )
    assert printed == "set()"


# --- logins -----------------------------------------------------------------------------------------------------------


def test_one_logs_in_once_and_again_where_the_token_has_ended(backend: OpenBackend, keys: Keys) -> None:
    backend.write("a", "x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: backend.list(), range(8)))
    assert logins(keys) == 1
    keys.change_password(keys.password)  # as before, but no token is one any more
    backend.write("a", "y")
    assert plain(backend.read("a")) == "y"
    assert logins(keys) == 2


@pytest.mark.parametrize("ended", ["invalid auth token", "revision of auth store is old"])
def test_a_token_is_replaced_once_within_a_call(ended: str, backend: OpenBackend, keys: Keys) -> None:
    backend.write("a", "x")
    answer = refusal(401 if "token" in ended else 400, 16 if "token" in ended else 3, f"etcdserver: {ended}")
    keys.proxy.fail_next(answer)
    assert plain(backend.read("a")) == "x"
    assert logins(keys) == 2
    before = len(keys.methods)
    keys.proxy.fail(answer)
    with pytest.raises(BackendLoginRefused):
        backend.read("a")
    assert keys.methods[before:] == ["kv/range", "auth/authenticate"]


def test_a_password_comes_from_where_the_uri_says(keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("ETCDCTL_USER", "ETCDCTL_PASSWORD"):
        monkeypatch.delenv(variable)
    file = tmp_path / "password"
    file.write_text(f"{keys.password}\n")
    monkeypatch.setenv("SHOP_PASSWORD", keys.password)
    opened(keys, f"user={keys.user}&file={file}").write("a", "x")
    assert plain(opened(keys, f"user={keys.user}&env=SHOP_PASSWORD").read("a")) == "x"
    monkeypatch.setenv("ETCDCTL_USER", f"{keys.user}:{keys.password}")
    assert plain(opened(keys).read("a")) == "x"
    monkeypatch.setenv("ETCDCTL_USER", "somebody:else")
    monkeypatch.setenv("ETCDCTL_PASSWORD", "wrong")
    given = {"ETCDCTL_PASSWORD": Secret(keys.password)}
    assert plain(open_backend(f"etcd:{keys.folder}?user={keys.user}", credentials=given).read("a")) == "x"
    monkeypatch.setenv("ETCDCTL_PASSWORD", keys.password)
    assert plain(opened(keys, f"user={keys.user}").read("a")) == "x"


def test_without_a_password_or_with_a_wrong_one_nobody_is_let_in(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_PASSWORD", "canary-wrong")
    with pytest.raises(BackendLoginRefused) as refused:
        opened(keys).read("a")
    assert "canary" not in refused.value.message + refused.value.hint
    monkeypatch.delenv("ETCDCTL_PASSWORD")
    with pytest.raises(BackendLoginRefused, match="no password") as refused:
        opened(keys).write("a", "x")
    assert refused.value.hint == "looked for in ETCDCTL_PASSWORD"
    monkeypatch.delenv("ETCDCTL_USER")
    with pytest.raises(BackendLoginRefused, match="wants a user"):
        opened(keys).read("a")


def test_a_user_where_there_are_no_users_is_refused(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    off = refusal(412, 9, "etcdserver: authentication is not enabled")
    keys.proxy.fail(off)
    with pytest.raises(BackendLoginRefused, match="not enabled"):
        opened(keys).read("a")


@pytest.mark.parametrize("fault", [Reset(), CutOff(), refusal(503, 14, "etcdserver: canary")])
def test_a_login_that_fails_leaves_no_write_in_doubt(fault: Any, keys: Keys) -> None:  # noqa: ANN401 - of any kind
    keys.proxy.fail(fault)
    with pytest.raises(BackendNotReached):
        opened(keys).write("a", "x")
    assert set(keys.methods) == {"auth/authenticate"}


def test_who_may_only_read_does_not_write_and_who_may_only_write_does_not_read(keys: Keys) -> None:
    backend = opened(keys)
    backend.write("a", "x")
    keys.deny()
    keys.allow("READ")
    assert plain(backend.read("a")) == "x"
    for call in (lambda: backend.write("a", "y"), lambda: backend.delete("a")):
        with pytest.raises(BackendDenied):
            call()
    keys.deny()
    keys.allow("WRITE")
    backend.write("a", "z")
    with pytest.raises(BackendDenied):
        backend.read("a")
    with pytest.raises(BackendDenied):
        backend.read_many(["a"])
    with pytest.raises(BackendDenied):
        next(backend.watch())
    with pytest.raises(BackendDenied):
        open_backend("etcd:elsewhere").list()


def test_a_server_with_tls_and_without_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, certificate = make_certificates(tmp_path, [x509.IPAddress(IPv4Address("127.0.0.1"))])
    arguments = ("--cert-file", str(certificate), "--key-file", str(certificate))
    for variable in ("ENDPOINTS", "CACERT", "CERT", "KEY", "USER", "PASSWORD"):
        monkeypatch.delenv(f"ETCDCTL_{variable}", raising=False)
    with etcd_server(*arguments, is_guarded=False) as etcd:
        monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"127.0.0.1:{etcd.port}")  # TLS, as an authority is known
        backend = open_backend(f"etcd:shop?cacert={authority}", patience=HASTY)
        backend.write("a", "x")
        watching = backend.watch()
        assert next(watching) == Changes((), is_whole=True)
        backend.write("a", "y")
        assert next(watching).paths == ("a",)
        watching.close()
        monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"https://127.0.0.1:{etcd.port}")
        with pytest.raises(BackendNotReached, match="certificate") as refused:
            open_backend("etcd:shop", patience=ONCE).read("a")
        assert "ETCDCTL_CACERT" in refused.value.hint
        monkeypatch.setenv("ETCDCTL_CACERT", str(authority))
        assert plain(open_backend("etcd:shop").read("a")) == "y"


# --- values and keys --------------------------------------------------------------------------------------------------


def test_what_others_wrote_is_text_fields_or_bytes(backend: OpenBackend, keys: Keys) -> None:
    held = {
        "text": (b"hunter2", "hunter2"),
        "empty": (b"", ""),
        "fields": (b'{"user": "web", "port": 5432}', {"user": "web", "port": "5432"}),
        "nested": (b'{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        "bytes": (b"\xff\x00\xfe", b"\xff\x00\xfe"),
        "zero": (b"\x00", "\x00"),
    }
    for path, (raw, _) in held.items():
        keys.etcd.put(keys.folder + path, raw)
    assert {path: plain(backend.read(path)) for path in held} == {path: value for path, (_, value) in held.items()}
    assert {path: plain(each) for path, each in backend.read_many(held).items()} == {
        path: value for path, (_, value) in held.items()
    }


def test_bytes_that_are_utf_8_are_refused_before_anything_is_sent(backend: OpenBackend, keys: Keys) -> None:
    for content in (b"text", b"", "Grüße".encode(), b'{"a": "b"}'):
        with pytest.raises(Unsupported):
            backend.write("a", content)
    assert keys.methods == []
    backend.write("a", b"\xff")
    assert plain(backend.read("a")) == b"\xff"


def test_fields_that_take_too_much_room_as_json_are_refused_before_anything_is_sent(
    backend: OpenBackend, keys: Keys
) -> None:
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"a": '"' * (keys_module.VALUE_BYTES_MAX - 100)})
    assert keys.methods == []


def test_the_longest_value_fits_beside_the_longest_key(keys: Keys) -> None:
    backend = opened(keys)
    version = backend.write("x" * 1_024, "1")
    backend.write("x" * 1_024, "y" * keys_module.VALUE_BYTES_MAX, expect=version)


def test_keys_that_are_no_paths_are_passed_over(backend: OpenBackend, keys: Keys) -> None:
    for key in (b"good", b"", b"folder/", b"a//b", b"\xff\xfe", b"st*r", "nu\u0308".encode(), b"a\nb"):
        keys.etcd.put(keys.folder.encode() + key, b"x")
    found = backend.list()
    assert (found.paths, found.passed_over) == (["good"], 7)


def test_neighbours_of_the_folder_are_not_in_it(keys: Keys) -> None:
    for key in (f"{keys.user}", f"{keys.user}.x", f"{keys.user}0", f"{keys.user}-/x", f"{keys.user}/in"):
        keys.etcd.put(key, b"x")
    assert opened(keys).list().paths == ["in"]


def test_without_a_folder_everything_is_listed_and_watched(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CACERT", "CERT", "KEY", "PASSWORD"):
        monkeypatch.delenv(f"ETCDCTL_{variable}", raising=False)
    monkeypatch.setenv("ETCDCTL_USER", "root:canary-root-password")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"127.0.0.1:{etcd.port}")
    backend = open_backend("etcd:", patience=HASTY)
    watching = backend.watch()
    next(watching)
    etcd.put("zz/rootless", b"x")
    assert next(watching).paths == ("zz/rootless",)
    watching.close()
    assert "zz/rootless" in backend.list().paths
    assert plain(backend.read("zz/rootless")) == "x"
    assert open_backend("etcd:/zz").list().paths == []


# --- revisions --------------------------------------------------------------------------------------------------------


def test_a_version_is_the_revision_of_the_last_change(backend: OpenBackend, keys: Keys) -> None:
    version = backend.write("a", "x", expect="")
    assert keys.etcd.get(f"{keys.folder}a")["mod_revision"] == version
    backend.write("b", "x")
    assert backend.read("a").version.id == version
    backend.write("a", "y", expect=version)
    with pytest.raises(StaleWrite):
        backend.write("a", "z", expect=version)
    keys.etcd.delete(f"{keys.folder}a")
    with pytest.raises(SecretNotFound):
        backend.write("a", "z", expect=version)
    backend.write("a", "again", expect="")


@pytest.mark.parametrize("version", ["0", "-1", "01", "1.0", " 1", "1_0", "٣", "9" * 19, "latest"])
def test_a_text_that_is_no_revision_is_not_sent_to_compare(version: str, backend: OpenBackend, keys: Keys) -> None:
    with pytest.raises(StaleWrite):
        backend.write("a", "y", expect=version)
    assert keys.methods == []


def test_earlier_revisions_are_read_until_they_are_compacted(keys: Keys) -> None:
    backend = opened(keys, "history=yes")
    first, second, third = (backend.write("a", str(number)) for number in range(3))
    other = backend.write("b", "x")
    assert [version.id for version in backend.versions("a")] == [third, second, first]
    assert plain(backend.read("a", second)) == "1"
    for wrong in (other, str(int(first) - 1), str(int(other) + 1_000), "latest", "0", "9" * 18):
        with pytest.raises(VersionNotFound):
            backend.read("a", wrong)
    keys.etcd.compact()
    assert [version.id for version in backend.versions("a")] == [third]
    assert plain(backend.read("a", third)) == "2"
    for gone in (first, second):
        with pytest.raises(VersionNotFound):
            backend.read("a", gone)
    fourth = backend.write("a", "3")
    # By now the third is seen as what was there before, but its own revision is gone.
    assert [version.id for version in backend.versions("a")] == [fourth]


def test_what_is_deleted_has_no_versions_left_though_etcd_may_have(keys: Keys) -> None:
    backend = opened(keys, "history=yes")
    first = backend.write("a", "1")
    backend.delete("a")
    with pytest.raises(SecretNotFound):
        backend.read("a", first)
    second = backend.write("a", "2")
    assert [version.id for version in backend.versions("a")] == [second]
    with pytest.raises(VersionNotFound):
        backend.read("a", first)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_listing_is_of_one_revision(backend: OpenBackend, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_PAGE", 2)
    for number in range(5):
        backend.write(f"{number}", "x")
    listing = backend._backend.list("")
    found = [next(listing)]
    keys.etcd.delete(f"{keys.folder}4")
    keys.etcd.put(f"{keys.folder}33", b"x")
    assert [*found, *listing] == ["0", "1", "2", "3", "4"]
    assert keys.methods.count("kv/range") == 3


def test_a_listing_that_is_compacted_meanwhile_is_made_again(
    backend: OpenBackend, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_PAGE", 2)
    for number in range(4):
        backend.write(f"{number}", "x")
    listing = backend._backend.list("")
    next(listing)
    keys.etcd.put(f"{keys.folder}5", b"x")
    keys.etcd.compact()
    with pytest.raises(BackendUnavailable, match="compacted"):
        list(listing)
    gone = refusal(400, 11, "etcdserver: mvcc: required revision has been compacted")
    keys.proxy.fail_next(gone)
    assert backend.list().paths == ["0", "1", "2", "3", "5"]


def test_several_are_read_as_they_are_at_one_revision(backend: OpenBackend, keys: Keys) -> None:
    for number in range(40):
        keys.etcd.put(f"{keys.folder}{number}", str(number).encode())
    backend.list()
    before = len(keys.methods)
    found = backend.read_many(map(str, range(41)))
    assert {path: plain(each) for path, each in found.items()} == {str(n): str(n) for n in range(40)}
    assert keys.methods[before:] == ["kv/txn", "kv/txn"]


# --- watches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "WATCH_S", QUICK_S)


def seen(watching: Iterator[Changes], size: int) -> list[str]:
    found: list[str] = []
    while len(found) < size:
        changes = next(watching)
        assert changes.is_whole
        found += changes.paths
    return found


@pytest.mark.usefixtures("quick")
def test_a_watch_says_something_in_time_and_passes_over_what_is_no_path(backend: OpenBackend, keys: Keys) -> None:
    watching = backend.watch()
    assert [next(watching) for _ in range(3)] == [Changes((), is_whole=True)] * 3
    keys.etcd.put(f"{keys.folder}a//b", b"x")
    keys.etcd.put(f"{keys.folder}good", b"x")
    assert seen(watching, 1) == ["good"]
    watching.close()
    assert keys.methods.count("watch") == 1


@pytest.mark.usefixtures("quick")
def test_a_watch_that_is_broken_off_goes_on_where_it_was(backend: OpenBackend, keys: Keys) -> None:
    watching = backend.watch()
    next(watching)
    backend.write("a", "x")
    assert seen(watching, 1) == ["a"]
    keys.proxy.break_off()
    for path in ("b", "c"):
        keys.etcd.put(f"{keys.folder}{path}", b"x")
    keys.etcd.delete(f"{keys.folder}b")
    assert set(seen(watching, 2)) == {"b", "c"}
    assert keys.methods.count("watch") == 2
    watching.close()


@pytest.mark.usefixtures("quick")
def test_a_watch_that_cannot_go_on_as_etcd_has_forgotten_says_so(backend: OpenBackend, keys: Keys) -> None:
    watching = backend.watch()
    next(watching)
    backend.write("a", "x")
    assert seen(watching, 1) == ["a"]
    keys.proxy.break_off()
    keys.proxy.fail_next(
        Answer(
            200,
            b'{"result":{"header":{"revision":"9"},"created":true}}\n'
            b'{"result":{"header":{},"canceled":true,"compact_revision":"8"}}\n',
        )
    )
    assert [next(watching) for _ in range(2)] == [Changes((), is_whole=True), Changes((), is_whole=False)]
    assert keys.methods.count("watch") == 3  # the handle has begun nothing anew
    keys.etcd.put(f"{keys.folder}b", b"x")
    assert seen(watching, 1) == ["b"]
    watching.close()


@pytest.mark.usefixtures("quick")
def test_a_watch_from_a_revision_that_is_really_compacted_begins_anew(backend: OpenBackend, keys: Keys) -> None:
    plug_in: Any = backend._backend
    watching = plug_in.watch("")
    next(watching)
    keys.proxy.break_off()
    keys.etcd.put(f"{keys.folder}a", b"x")
    keys.etcd.put(f"{keys.folder}b", b"x")
    keys.etcd.compact()
    with pytest.raises(BackendUnavailable):  # nothing was said by it yet, so that it is begun anew by the handle
        list(watching)
    watching = plug_in.watch("")
    next(watching)
    keys.etcd.put(f"{keys.folder}c", b"x")
    assert next(watching) == Changes(("c",), is_whole=True)
    keys.proxy.break_off()
    keys.etcd.put(f"{keys.folder}d", b"x")
    keys.etcd.put(f"{keys.folder}e", b"x")
    keys.etcd.compact()
    assert Changes((), is_whole=False) in [next(watching) for _ in range(3)]
    watching.close()


@pytest.mark.usefixtures("quick")
def test_progress_moves_where_a_watch_goes_on() -> None:
    following = etcd_following(b'{"result":{"header":{"revision":"90"}}}\n')
    assert following.start == 8
    assert following.keys(1) == []
    assert following.start == 91
    following = etcd_following(
        b'{"result":{"header":{"revision":"90"},"events":[{"kv":{"key":"YQ==","mod_revision":"12"}}]}}\n'
    )
    assert following.keys(1) == [b"a"]
    assert following.start == 13


class _Lines:
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, _wait_s: float) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        """Close nothing."""


def etcd_following(*pieces: bytes) -> Any:  # noqa: ANN401 - over lines instead of a stream
    from securecfg.backends.etcd_server import Following

    begun = b'{"result":{"header":{"revision":"7"},"created":true}}\n'
    stream: Any = _Lines(begun, *pieces)
    return Following(stream, None)


@pytest.mark.parametrize(
    "said",
    [
        b"canary\n",
        b"[]\n",
        b"{}\n",
        b'{"result":[]}\n',
        b'{"result":{"header":{}}}\n',
        b'{"result":{"header":{"revision":"8"},"events":[{}]}}\n',
        b'{"result":{"header":{"revision":"8"},"events":[{"kv":{"key":"!","mod_revision":"8"}}]}}\n',
        b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: canary"}}\n',
        b'{"result":{"header":{},"canceled":true,"cancel_reason":"canary"}}\n',
        b'{"result":{"header":',
        b"",
    ],
)
def test_what_a_watch_says_that_makes_no_sense_is_unavailable(said: bytes) -> None:
    with pytest.raises(BackendUnavailable) as refused:
        etcd_following(said).keys(1)
    assert "canary" not in refused.value.message + refused.value.hint


def test_a_watch_whose_token_has_ended_gets_another(backend: OpenBackend, keys: Keys) -> None:
    backend.write("a", "x")
    keys.change_password(keys.password)
    watching = backend.watch()
    assert next(watching) == Changes((), is_whole=True)
    watching.close()
    assert (logins(keys), keys.methods.count("watch")) == (2, 2)
    keys.change_password("another")
    with pytest.raises(BackendLoginRefused):
        next(backend.watch())


def test_a_watch_that_cannot_begin_has_its_error(keys: Keys) -> None:
    backend = opened(keys, patience=ONCE)
    backend.list()
    for answer, error in (
        (refusal(503, 14, "etcdserver: canary"), BackendUnavailable),
        (Answer(404, b"Not Found"), BackendRefused),
        (Reset(), BackendUnavailable),
        (Answer(200, b"canary\n"), BackendUnavailable),
    ):
        keys.proxy.fail_next(answer)
        with pytest.raises(error) as refused:
            next(backend.watch())
        assert "canary" not in str(refused.value)


def test_closing_a_watch_frees_its_connection(backend: OpenBackend, keys: Keys) -> None:
    watching = backend.watch()
    next(watching)
    assert len(keys.proxy._under_way) == 1
    watching.close()
    for path in ("a", "b", "c"):  # of which the proxy cannot hand on all any more
        backend.write(path, "x")
    for _ in range(100):
        if not keys.proxy._under_way:
            break
        threading.Event().wait(0.02)
    assert keys.proxy._under_way == set()


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSALS = [
    (refusal(400, 3, "etcdserver: request is too large"), ValueTooLarge),
    (refusal(429, 8, "grpc: received message larger than max (2100010 vs. 2097152)"), ValueTooLarge),
    (refusal(429, 8, "etcdserver: mvcc: database space exceeded"), BackendRefused),
    (refusal(400, 3, "etcdserver: canary"), BackendRefused),
    (refusal(400, 3, "etcdserver: user name is empty"), BackendLoginRefused),
    (refusal(403, 7, "etcdserver: permission denied"), BackendDenied),
    (refusal(403, 7, "canary"), BackendDenied),
    (Answer(404, b"canary"), BackendRefused),
    (Answer(400, b"\xff"), BackendRefused),
    (refusal(429, 8, "etcdserver: too many requests"), BackendNotReached),
    (Answer(429, b""), BackendNotReached),
    (refusal(503, 14, "etcdserver: request timed out"), CommitUnknown),
    (refusal(503, 14, "etcdserver: leader changed"), CommitUnknown),
    (Answer(503, b"canary"), CommitUnknown),
    (refusal(408, 1, "context canceled"), CommitUnknown),
    (refusal(500, 15, "etcdserver: corrupt cluster"), CommitUnknown),
    (Answer(504, b""), CommitUnknown),
    (Reset(), CommitUnknown),
    (CutOff(), CommitUnknown),
    (Answer(200, b"{}"), CommitUnknown),
    (Answer(200, HEADER + b"}"), CommitUnknown),
    (Answer(200, b'{"header":{"revision":"canary"},"succeeded":true}'), CommitUnknown),
    (Answer(200, b"[" * 100_000), CommitUnknown),
]


@pytest.mark.parametrize(
    ("answer", "error"), REFUSALS, ids=[f"{n}-{error.code}" for n, (_, error) in enumerate(REFUSALS)]
)
def test_each_refusal_of_a_write_has_its_name(answer: Any, error: type[SecurecfgError], keys: Keys) -> None:  # noqa: ANN401 - of any kind
    backend = opened(keys, patience=ONCE)
    backend.list()
    keys.proxy.fail_next(answer)
    with pytest.raises(SecurecfgError) as refused:
        backend.write("a", "x")
    assert type(refused.value) is error
    assert "canary" not in refused.value.message + refused.value.hint
    assert refused.value.hint or error is CommitUnknown


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b',"kvs":null}',
        b',"kvs":{}}x',
        b',"kvs":[{}]}',
        b',"kvs":[{"key":"!","create_revision":"1","mod_revision":"1"}]}',
        b',"kvs":[{"key":"YQ==","create_revision":"1","mod_revision":"x"}]}',
        b',"kvs":[{"key":"YQ==","create_revision":"1","mod_revision":"1","value":7}]}',
        b',"kvs":[{"key":"YQ==","create_revision":"1","mod_revision":"1","value":"Y2FuYXJ5"}]}',  # of another key
        b',"kvs":[{"key":"YQ=="},{"key":"Yg=="}]}',
        b',"kvs":[{"key":"YQ==","create_revision":"1","mod_revision":"1"}],"responses":[{}],"succeeded":true}',
        b',"kvs":[],"more":true,"responses":[],"succeeded":true}',
    ],
)
def test_an_answer_that_makes_no_sense_is_unavailable(rest: bytes, keys: Keys) -> None:
    backend = opened(keys, patience=ONCE)
    backend.list()
    keys.proxy.fail(Answer(200, HEADER + rest))
    calls: list[Callable[[], object]] = [lambda: backend.read("a"), lambda: backend.read_many(["a"])]
    if rest.startswith(b',"kvs":[]'):
        calls[0] = backend.list  # nothing is there, so that there is nothing to be read
    for call in calls:
        with pytest.raises(BackendUnavailable) as refused:
            call()
        assert "canary" not in refused.value.message + refused.value.hint


def test_when_to_come_back_is_kept(keys: Keys) -> None:
    backend = opened(keys, patience=Patience(deadline_s=0.5, pauses_s=(0.01,)))
    backend.list()
    keys.proxy.fail(Answer(429, b"", {"Retry-After": "5"}))
    before = len(keys.methods)
    with pytest.raises(BackendNotReached) as refused:
        backend.read("a")
    assert refused.value.retry_after_s == 5
    assert len(keys.methods) - before == 1


def test_a_token_that_is_no_header_is_not_sent(keys: Keys) -> None:
    keys.proxy.fail(Answer(200, HEADER + b',"token":"a\\r\\nX-Canary: 1"}'))
    with pytest.raises(BackendUnavailable):
        opened(keys, patience=ONCE).read("a")
    assert keys.methods == ["auth/authenticate"]
