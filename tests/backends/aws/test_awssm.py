"""`awssm:` against moto's server, with a proxy before it where the service has to fail."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from securecfg.backends import Kind, State, StoredVersion, open_backend
from securecfg.backends.awssm import CURRENT, PENDING, PREVIOUS, VALUE_BYTES_MAX, newest_first
from securecfg.errors import (
    AlreadyExists,
    BackendDenied,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidBackendUri,
    InvalidMetadata,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    Unsupported,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.patience import Patience
from securecfg.testing.backend_conformance import HASTY, BackendFault, plain
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, Reset
from tests.backends.aws.cases import FAULTS, ONCE, AnswersOfAws, AwsConformance, actions
from tests.keys.aws import ANOTHER_REGION, REGION, Client, client, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.backends import OpenBackend
    from securecfg.testing.faulty_proxy import Fault, FaultyProxy

CANARY = "canary-value-4711"
HANDED_ON = Delay(0)


@pytest.fixture
def uri(proxy: FaultyProxy) -> str:
    return f"awssm:?region={REGION}&endpoint={proxy.url}"


@pytest.fixture
def backend(uri: str) -> OpenBackend:
    return open_backend(uri, patience=HASTY)


@pytest.fixture
def tagged(uri: str) -> OpenBackend:
    return open_backend(f"{uri}&tags=yes", patience=HASTY)


@pytest.fixture
def aws(port: int, empty: None) -> Client:
    return client("secretsmanager", port)


class TestAwsSecrets(AwsConformance):
    uri = "awssm:"
    many = 220

    def fill(self, count: int) -> None:
        secrets = client("secretsmanager", self._port)
        with ThreadPoolExecutor(4) as pool:
            names = [f"many/{number:05}" for number in range(count)]
            list(pool.map(lambda name: secrets.create_secret(Name=name, SecretString="x"), names))


@pytest.mark.usefixtures("empty")
class TestAnswers(AnswersOfAws):
    scheme = "awssm"
    environment = "AWS_ENDPOINT_URL_SECRETS_MANAGER"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a b", "grüße", "a~b", "a:b", "a%2Fb", "a,b", "a!b", "x" * 513])
def test_what_aws_takes_as_no_name_is_no_path(path: str, backend: OpenBackend, proxy: FaultyProxy) -> None:
    for call in (
        lambda: backend.read(path),
        lambda: backend.read_many(["a", path]),
        lambda: backend.versions(path),
        lambda: backend.write(path, "x"),
        lambda: backend.label(path, "canary", None),
        lambda: backend.delete(path),
        lambda: backend.recover(path),
    ):
        with pytest.raises(InvalidPath):
            call()
    assert proxy.exchanges == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [("", "a/b"), ("prod", "prod/a/b"), ("prod/", "prod/a/b"), ("/", "/a/b"), ("/p/q+=", "/p/q+=/a/b")],
)
def test_a_folder_stands_in_front_of_every_name(folder: str, name: str, uri: str, aws: Client) -> None:
    backend = open_backend(uri.replace("awssm:", f"awssm:{folder}"))
    backend.write("a/b", "1")
    assert aws.get_secret_value(SecretId=name)["SecretString"] == "1"
    assert backend.list().paths == backend.list("a/").paths == ["a/b"]
    assert list(backend.read_many(["a/b", "a"])) == ["a/b"]


def test_other_folders_are_not_seen(uri: str, aws: Client) -> None:
    for name in ("prod/a", "production/a", "a", "prod"):
        aws.create_secret(Name=name, SecretString=name)
    backend = open_backend(uri.replace("awssm:", "awssm:prod"))
    assert backend.list() == (["a"], 0)
    assert plain(backend.read("a")) == "prod/a"


def test_names_that_are_no_paths_are_counted(backend: OpenBackend, aws: Client) -> None:
    for name in ("a", "/a", "a//b", "a@b", "a/", "a/../b"):
        aws.create_secret(Name=name, SecretString="x")
    assert backend.list() == (["a"], 5)


def test_a_folder_shortens_the_paths(uri: str) -> None:
    assert open_backend(uri).capabilities.path_bytes_max == 512
    assert open_backend(uri.replace("awssm:", "awssm:prod")).capabilities.path_bytes_max == 507


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", b""])
def test_an_empty_value_is_refused_before_anything_is_sent(
    value: str | bytes, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    with pytest.raises(Unsupported):
        backend.write("a", value)
    assert proxy.exchanges == []


def test_fields_are_measured_with_their_json(backend: OpenBackend, proxy: FaultyProxy) -> None:
    overhead = len('{"a":""}')
    fits = {"a": "x" * (VALUE_BYTES_MAX - overhead)}
    backend.write("a", fits)
    assert plain(backend.read("a")) == fits
    proxy.exchanges.clear()
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"a": "x" * (VALUE_BYTES_MAX - overhead + 1)})
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"a": '"' * (VALUE_BYTES_MAX - overhead)})
    assert proxy.exchanges == []


def test_each_kind_lies_where_others_look_for_it(backend: OpenBackend, aws: Client) -> None:
    for path, value in (("text", "Grüße"), ("bytes", b"\x00\xff"), ("fields", {"user": "web", "Paß": "wört"})):
        backend.write(path, value)
    assert aws.get_secret_value(SecretId="text")["SecretString"] == "Grüße"
    assert aws.get_secret_value(SecretId="bytes")["SecretBinary"] == b"\x00\xff"
    assert aws.get_secret_value(SecretId="fields")["SecretString"] == '{"user":"web","Paß":"wört"}'


def test_what_others_wrote_is_read(backend: OpenBackend, aws: Client) -> None:
    aws.create_secret(Name="db", SecretString='{"engine": "postgres", "port": 5432, "ssl": true}')
    aws.create_secret(Name="deep", SecretString='{"a": {"b": "c"}}')
    assert plain(backend.read("db")) == {"engine": "postgres", "port": "5432", "ssl": "true"}
    assert plain(backend.read("deep")) == '{"a": {"b": "c"}}'


def test_a_secret_without_a_value_is_not_found_until_it_gets_one(backend: OpenBackend, aws: Client) -> None:
    aws.create_secret(Name="a")
    with pytest.raises(SecretNotFound):
        backend.read("a")
    version = backend.write("a", "1")
    assert backend.read("a").version.id == version


# --- versions and labels ----------------------------------------------------------------------------------------------


def test_awss_own_labels_are_shown_and_read_and_belong_to_aws(backend: OpenBackend, proxy: FaultyProxy) -> None:
    first, second = (backend.write("a", text) for text in ("1", "2"))
    assert [(each.id, each.labels) for each in backend.versions("a")] == [(second, (CURRENT,)), (first, (PREVIOUS,))]
    assert plain(backend.read("a", PREVIOUS)) == "1"
    assert backend.read("a").version.labels == (CURRENT,)
    proxy.exchanges.clear()
    for label in (CURRENT, PREVIOUS, "AWSPENDING", "AWSnew", PENDING, "", "x" * 257):
        for version in (first, None):
            with pytest.raises(InvalidMetadata):
                backend.label("a", label, version)
    assert proxy.exchanges == []


def test_versions_without_labels_are_listed_and_read(backend: OpenBackend) -> None:
    ids = [backend.write("a", str(number)) for number in range(5)]
    assert [each.id for each in backend.versions("a")] == ids[::-1]
    assert {each.state for each in backend.versions("a")} == {State.LIVE}
    assert plain(backend.read("a", ids[0])) == "0"


def test_of_versions_of_one_moment_the_current_one_is_the_newest() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    current, previous, other = (
        StoredVersion(id_, created=moment, labels=labels)
        for id_, labels in (("a", (CURRENT,)), ("b", (PREVIOUS,)), ("c", ("z",)))
    )
    later = StoredVersion("d", created=datetime(2026, 1, 2, tzinfo=UTC))
    assert newest_first([other, previous, later, current]) == [later, current, previous, other]


def test_a_label_that_looks_like_an_id_is_read_after_the_ids(backend: OpenBackend) -> None:
    first, second = (backend.write("a", text) for text in ("1", "2"))
    backend.label("a", "x" * 32, first)
    assert plain(backend.read("a", "x" * 32)) == "1"
    backend.label("a", second, first)
    assert plain(backend.read("a", second)) == "2"


def test_a_label_that_is_nowhere_cannot_be_taken_away(backend: OpenBackend) -> None:
    version = backend.write("a", "1")
    with pytest.raises(VersionNotFound):
        backend.label("a", "canary", None)
    backend.label("a", "canary", version)
    backend.label("a", "canary", version)
    for unknown in ("x" * 32, "short", "x" * 65):
        with pytest.raises(VersionNotFound):
            backend.label("a", "canary", unknown)
    assert plain(backend.read("a", "canary")) == "1"
    with pytest.raises(SecretNotFound):
        backend.label("b", "canary", version)


@pytest.mark.parametrize("version", ["x" * 257, "nö", PENDING, "x" * 64])
def test_what_can_be_no_version_is_not_found(version: str, backend: OpenBackend) -> None:
    first = backend.write("a", "1")
    backend.write("a", "2", expect=first)
    with pytest.raises(VersionNotFound):
        backend.read("a", version)
    with pytest.raises(SecretNotFound):
        backend.read("b", version)


def test_a_label_is_looked_up_again_and_moved_once(backend: OpenBackend, proxy: FaultyProxy) -> None:
    first, second = (backend.write("a", text) for text in ("1", "2"))
    proxy.exchanges.clear()
    proxy.fail_next(Reset(), CutOff())
    backend.label("a", "canary", first)
    assert actions(proxy.exchanges) == ["DescribeSecret"] * 3 + ["UpdateSecretVersionStage"]
    proxy.exchanges.clear()
    proxy.fail_next(HANDED_ON, CutOff())
    with pytest.raises(CommitUnknown):
        backend.label("a", "canary", second)
    assert actions(proxy.exchanges) == ["DescribeSecret", "UpdateSecretVersionStage"]


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_what_waits_for_its_deletion_is_not_found_and_keeps_its_name(backend: OpenBackend) -> None:
    version = backend.write("a", "1")
    backend.delete("a")
    calls: tuple[Callable[[], object], ...] = (
        lambda: backend.read("a", version),
        lambda: backend.versions("a"),
        lambda: backend.label("a", "canary", version),
        lambda: backend.delete("a"),
        lambda: backend.write("a", "2", expect=version),
    )
    for gone in calls:
        with pytest.raises(SecretNotFound):
            gone()
    for expect in (None, ""):
        with pytest.raises(BackendRefused) as refused:
            backend.write("a", "2", expect=expect)
        assert "bring it back" in refused.value.hint
    backend.recover("a")
    assert [each.id for each in backend.versions("a")] == [version]


def test_a_secret_is_deleted_with_awss_own_time_to_think_it_over(backend: OpenBackend, aws: Client) -> None:
    backend.write("a", "1")
    backend.delete("a")
    deleted = aws.describe_secret(SecretId="a")["DeletedDate"]
    assert 29 <= (deleted - datetime.now(UTC)).days <= 30


# --- a write that expects a version -----------------------------------------------------------------------------------


def test_a_write_that_expects_a_version_moves_awscurrent_from_it(backend: OpenBackend, proxy: FaultyProxy) -> None:
    first = backend.write("a", "1")
    proxy.exchanges.clear()
    second = backend.write("a", "2", expect=first)
    assert actions(proxy.exchanges) == ["DescribeSecret", "PutSecretValue", "UpdateSecretVersionStage"]
    assert json.loads(proxy.exchanges[1].body)["VersionStages"] == [PENDING]
    move = json.loads(proxy.exchanges[2].body)
    assert (move["RemoveFromVersionId"], move["MoveToVersionId"]) == (first, second)
    assert [each.labels for each in backend.versions("a")] == [(CURRENT,), (PREVIOUS,)]


def test_a_write_on_an_old_version_leaves_nothing_behind(backend: OpenBackend, proxy: FaultyProxy) -> None:
    first = backend.write("a", "1")
    backend.write("a", "2")
    proxy.exchanges.clear()
    for seen in (first, "x" * 32, "no id at all"):
        with pytest.raises(StaleWrite):
            backend.write("a", "3", expect=seen)
    assert set(actions(proxy.exchanges)) == {"DescribeSecret"}


def test_who_is_overtaken_between_the_steps_is_told_and_is_not_read(
    backend: OpenBackend, proxy: FaultyProxy, aws: Client
) -> None:
    first = backend.write("a", "1")
    proxy.exchanges.clear()
    proxy.fail_next(HANDED_ON, HANDED_ON, Delay(0.3))
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(backend.write, "a", CANARY, expect=first)
        while len(proxy.exchanges) < 3:
            time.sleep(0.005)
        aws.put_secret_value(SecretId="a", SecretString="other")
        with pytest.raises(StaleWrite):
            write.result()
    assert plain(backend.read("a")) == "other"
    assert plain(backend.read("a", PREVIOUS)) == "1"


def test_who_dies_between_the_steps_has_written_nothing_and_stops_nobody(
    backend: OpenBackend, proxy: FaultyProxy, aws: Client
) -> None:
    first = backend.write("a", "1")
    proxy.fail_next(HANDED_ON, HANDED_ON, FAULTS[BackendFault.DENIED])
    with pytest.raises(BackendDenied):
        backend.write("a", "2", expect=first)
    assert plain(backend.read("a")) == "1"
    second = backend.write("a", "3", expect=first)
    assert plain(backend.read("a")) == "3"
    stages = aws.describe_secret(SecretId="a")["VersionIdsToStages"]
    assert sorted(stages.pop(second)) == [CURRENT, PENDING]
    assert stages.pop(first) == [PREVIOUS]
    assert not any(stages.values())


@pytest.mark.parametrize("fault", [Reset(), CutOff(), FAULTS[BackendFault.BROKEN], FAULTS[BackendFault.THROTTLED]])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_each_step_of_a_write_that_expects_a_version_can_be_repeated(
    step: int, fault: Fault, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    first = backend.write("a", "1")
    proxy.fail_next(*[HANDED_ON] * step, fault)
    second = backend.write("a", "2", expect=first)
    assert plain(backend.read("a")) == "2"
    assert [each.id for each in backend.versions("a")] == [second, first]


def test_a_write_whose_answer_was_lost_was_made_where_it_has_been_overtaken_once(
    uri: str, proxy: FaultyProxy, aws: Client
) -> None:
    assert overtaken(1, uri, proxy, aws) is None


def test_a_write_whose_answer_was_lost_is_in_doubt_where_it_has_been_overtaken_twice(
    uri: str, proxy: FaultyProxy, aws: Client
) -> None:
    assert isinstance(overtaken(2, uri, proxy, aws), CommitUnknown)


def overtaken(times: int, uri: str, proxy: FaultyProxy, aws: Client) -> SecurecfgError | None:
    """Write without getting an answer while others write, and return how that ends."""
    backend = open_backend(uri, patience=Patience(20.0, (0.0, 0.0)))
    first = backend.write("a", "1")
    proxy.exchanges.clear()
    busy = refusal("ThrottlingException")
    proxy.fail_next(HANDED_ON, HANDED_ON, CutOff(), Answer(400, busy.body, {**busy.headers, "Retry-After": "1"}))
    ended: list[SecurecfgError | None] = []

    def write() -> None:
        try:
            backend.write("a", "2", expect=first)
        except SecurecfgError as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=write)
    thread.start()
    while len(proxy.exchanges) < 4:
        time.sleep(0.005)
    for number in range(times):
        aws.put_secret_value(SecretId="a", SecretString=f"other {number}")
    thread.join()
    assert plain(backend.read("a")) == f"other {times - 1}"
    return ended[0]


@pytest.mark.parametrize("fault", [Reset(), CutOff(), FAULTS[BackendFault.BROKEN]])
@pytest.mark.parametrize("expect", ["", None])
def test_a_secret_that_is_made_without_an_answer_is_made_once(
    expect: str | None, fault: Fault, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    proxy.fail_next(*[HANDED_ON] * (expect is None), fault)
    version = backend.write("a", "1", expect=expect)
    assert [each.id for each in backend.versions("a")] == [version]
    with pytest.raises(AlreadyExists):
        backend.write("a", "1", expect="")


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", BackendDenied),
        ("InternalServiceError", BackendUnavailable),
        ("DecryptionFailure", BackendRefused),
    ],
)
def test_what_is_wrong_with_one_of_many_is_not_passed_over(
    code: str, error: type[SecurecfgError], uri: str, proxy: FaultyProxy
) -> None:
    errors = [{"SecretId": "a", "ErrorCode": code, "Message": "canary of the service"}]
    proxy.fail(Answer(200, json.dumps({"SecretValues": [], "Errors": errors}).encode()))
    with pytest.raises(error) as raised:
        open_backend(uri, patience=ONCE).read_many(["a", "b"])
    assert "canary" not in raised.value.message + raised.value.hint


# --- metadata ---------------------------------------------------------------------------------------------------------


class TestWithTags(AwsConformance):
    uri = "awssm:folder?tags=yes"
    many = 12


def test_metadata_are_tags_of_ours_and_no_others(tagged: OpenBackend, aws: Client) -> None:
    aws.create_secret(Name="a", SecretString="1", Tags=[{"Key": "team", "Value": "pay"}])
    assert tagged.read("a").metadata == {}
    tagged.write("a", "2", metadata={"owner": "web", "note": "x"})
    tagged.write("a", "3", metadata={"owner": "ops"})
    tags = aws.describe_secret(SecretId="a")["Tags"]
    assert sorted((tag["Key"], tag["Value"]) for tag in tags) == [("securecfg:owner", "ops"), ("team", "pay")]
    assert tagged.read("a").metadata == {"owner": "ops"}
    tagged.write("a", "4", metadata={})
    assert [tag["Key"] for tag in aws.describe_secret(SecretId="a")["Tags"]] == ["team"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"owner": "a;b"},
        {"owner": "a\nb"},
        {"own*er": "a"},
        {"x" * 118: "a"},
        {"owner": "x" * 256},
        {f"key{number}": "x" for number in range(51)},
    ],
)
@pytest.mark.parametrize("expect", [None, ""])
def test_metadata_that_can_be_no_tags_are_refused_before_anything_is_sent(
    metadata: dict[str, str], expect: str | None, tagged: OpenBackend, proxy: FaultyProxy
) -> None:
    with pytest.raises(InvalidMetadata):
        tagged.write("a", "1", metadata=metadata, expect=expect)
    assert proxy.exchanges == []


def test_the_tags_of_others_count(tagged: OpenBackend, aws: Client) -> None:
    tags = [{"Key": f"other{number}", "Value": "x"} for number in range(49)]
    aws.create_secret(Name="a", SecretString="1", Tags=tags)
    tagged.write("a", "2", metadata={"owner": "web"})
    with pytest.raises(InvalidMetadata):
        tagged.write("a", "3", metadata={"owner": "web", "note": "x"})
    assert plain(tagged.read("a")) == "2"


@pytest.mark.parametrize("fault", [BackendFault.DENIED, BackendFault.THROTTLED, BackendFault.BROKEN])
def test_a_value_whose_metadata_are_refused_is_not_said_to_be_unwritten(
    fault: BackendFault, uri: str, proxy: FaultyProxy
) -> None:
    backend = open_backend(f"{uri}&tags=yes", patience=ONCE)
    backend.write("a", "1")
    proxy.fail_next(HANDED_ON, HANDED_ON, FAULTS[fault])
    with pytest.raises(CommitUnknown):
        backend.write("a", "2", metadata={"owner": "web"})
    assert plain(backend.read("a")) == "2"


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_write_with_metadata_is_finished_when_it_is_sent_again(
    step: int, tagged: OpenBackend, proxy: FaultyProxy
) -> None:
    tagged.write("a", "1", metadata={"note": "x"})
    proxy.fail_next(*[HANDED_ON] * step, CutOff())
    tagged.write("a", "2", metadata={"owner": "web"})
    found = tagged.read("a")
    assert (plain(found), found.metadata) == ("2", {"owner": "web"})
    assert len(tagged.versions("a")) == 2


def test_metadata_cost_a_second_call_and_are_off_unless_wanted(
    backend: OpenBackend, tagged: OpenBackend, proxy: FaultyProxy
) -> None:
    tagged.write("a", "1", metadata={"owner": "web"}, expect="")
    assert actions(proxy.exchanges) == ["CreateSecret"]
    proxy.exchanges.clear()
    assert backend.read("a").metadata == {}
    assert tagged.read("a").metadata == {"owner": "web"}
    assert actions(proxy.exchanges) == ["GetSecretValue", "GetSecretValue", "DescribeSecret"]
    assert (tagged.capabilities.reads_at_once, backend.capabilities.reads_at_once) == (1, 20)
    assert Kind.BYTES in tagged.capabilities.kinds


# --- other regions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def replicating(uri: str) -> OpenBackend:
    return open_backend(f"{uri}&replicate={ANOTHER_REGION},eu-central-1", patience=HASTY)


def in_region(uri: str, region: str) -> OpenBackend:
    return open_backend(uri.replace(REGION, region), patience=HASTY)


@pytest.mark.parametrize(
    "regions",
    [
        "",
        ",",
        "us-east-1,",
        "us-east-1,us-east-1",
        "us-east-1,,us-east-2",
        "us-east-1 ,us-east-2",
        "US-EAST-1",
        "us-east",
        "us-east-1a",
        "1",
        "-1",
        "us--1",
        "*",
        "us-east-1;eu-west-2",
        "us-east-1%0a",
        "ü-1",
        f"{'a' * 127}-1",
        REGION,
        f"us-east-1,{REGION}",
    ],
)
def test_what_names_no_other_regions_is_refused_before_anything_is_sent(
    regions: str, uri: str, proxy: FaultyProxy
) -> None:
    with pytest.raises(InvalidBackendUri):
        open_backend(f"{uri}&replicate={regions}")
    assert proxy.exchanges == []


@pytest.mark.parametrize("expect", ["", None])
def test_what_is_made_is_replicated_by_aws_and_can_be_read_there(
    expect: str | None, replicating: OpenBackend, uri: str, proxy: FaultyProxy
) -> None:
    version = replicating.write("a", "1", expect=expect)
    assert actions(proxy.exchanges)[-1] == "CreateSecret"
    for region in (ANOTHER_REGION, "eu-central-1"):
        found = in_region(uri, region).read("a")
        assert (plain(found), found.version.id) == ("1", version)
    second = replicating.write("a", "2", expect=version)
    assert plain(in_region(uri, ANOTHER_REGION).read("a", second)) == "2"
    with pytest.raises(SecretNotFound):
        in_region(uri, "us-west-2").read("a")


def test_what_is_there_already_is_not_replicated_by_writing_it(
    replicating: OpenBackend, backend: OpenBackend, uri: str, proxy: FaultyProxy
) -> None:
    backend.write("a", "1")
    proxy.exchanges.clear()
    replicating.write("a", "2")
    assert actions(proxy.exchanges) == ["PutSecretValue"]
    with pytest.raises(SecretNotFound):
        in_region(uri, ANOTHER_REGION).read("a")


def test_nothing_is_replicated_unless_wanted(backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    assert b"Region" not in proxy.exchanges[-1].body


@pytest.mark.parametrize("options", ["", "&tags=yes"])
def test_a_region_that_has_the_name_already_keeps_its_own_and_the_writer_is_told(options: str, uri: str) -> None:
    there = in_region(uri, ANOTHER_REGION)
    there.write("a", "theirs")
    backend = open_backend(f"{uri}&replicate=eu-central-1,{ANOTHER_REGION}{options}", patience=HASTY)
    with pytest.raises(CommitUnknown) as told:
        backend.write("a", CANARY)
    assert f"`{ANOTHER_REGION}`" in told.value.message
    assert "eu-central-1" not in told.value.message
    assert CANARY not in told.value.message + told.value.hint
    assert plain(backend.read("a")) == CANARY
    assert plain(there.read("a")) == "theirs"
    assert plain(in_region(uri, "eu-central-1").read("a")) == CANARY


def test_a_creation_that_is_sent_twice_replicates_once(
    replicating: OpenBackend, uri: str, proxy: FaultyProxy, aws: Client
) -> None:
    proxy.fail_next(CutOff())
    replicating.write("a", "1", expect="")
    assert len(replicating.versions("a")) == 1
    assert len(aws.describe_secret(SecretId="a")["ReplicationStatus"]) == 2


def test_a_secret_with_replicas_is_not_deleted_and_they_stay(
    replicating: OpenBackend, uri: str, proxy: FaultyProxy, aws: Client
) -> None:
    replicating.write("a", "1")
    proxy.exchanges.clear()
    with pytest.raises(BackendRefused) as refused:
        replicating.delete("a")
    assert f"`eu-central-1`, `{ANOTHER_REGION}`" in refused.value.message
    assert "remove-regions-from-replication" in refused.value.hint
    assert actions(proxy.exchanges) == ["DeleteSecret", "DescribeSecret"]
    assert plain(in_region(uri, ANOTHER_REGION).read("a")) == "1"
    aws.remove_regions_from_replication(SecretId="a", RemoveReplicaRegions=[ANOTHER_REGION, "eu-central-1"])
    replicating.delete("a")
    with pytest.raises(SecretNotFound):
        replicating.read("a")


def test_a_replica_is_changed_where_it_comes_from(replicating: OpenBackend, uri: str) -> None:
    version = replicating.write("a", "1")
    replica = in_region(uri, ANOTHER_REGION)
    for change in (
        lambda: replica.write("a", "2"),
        lambda: replica.write("a", "2", expect=version),
        lambda: replica.label("a", "prod", version),
        lambda: replica.delete("a"),
    ):
        with pytest.raises(BackendRefused) as refused:
            change()
        assert f"region={REGION}" in refused.value.hint
    assert plain(replica.read("a")) == "1"


def test_what_aws_takes_for_invalid_stays_so_where_it_cannot_be_looked_at(
    replicating: OpenBackend, proxy: FaultyProxy
) -> None:
    replicating.write("a", "1")
    for fault in (BackendFault.DENIED, BackendFault.BROKEN):
        proxy.fail_next(refusal("InvalidParameterException"), FAULTS[fault])
        with pytest.raises(BackendRefused) as refused:
            replicating.delete("a")
        assert "InvalidParameterException" in refused.value.message


def test_who_may_not_replicate_is_told_which_right_is_lacking(replicating: OpenBackend, proxy: FaultyProxy) -> None:
    proxy.fail_next(FAULTS[BackendFault.DENIED])
    with pytest.raises(BackendDenied) as denied:
        replicating.write("a", "1", expect="")
    assert "secretsmanager:ReplicateSecretToRegions" in denied.value.hint


def test_a_region_that_aws_does_not_take_is_named_as_the_reason(port: int, proxy: FaultyProxy) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)  # it is that of the settings, so that the URI does not know it
        backend = open_backend(f"awssm:?endpoint={proxy.url}&replicate={REGION}", patience=ONCE)
        with pytest.raises(BackendRefused) as refused:
            backend.write("a", "1", expect="")
    assert "replicate" in refused.value.hint
    with pytest.raises(SecretNotFound):
        open_backend(f"awssm:?endpoint={proxy.url}&region={REGION}").read("a")
