"""`awsssm:` against moto's server, with a proxy before it where the service has to fail."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from securecfg.backends import open_backend
from securecfg.errors import (
    AlreadyExists,
    BackendNotReached,
    BackendRefused,
    CommitUnknown,
    InvalidBackendUri,
    InvalidMetadata,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    Unsupported,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.testing.backend_conformance import HASTY, plain
from securecfg.testing.faulty_proxy import CutOff, Reset
from tests.backends.aws.cases import AnswersOfAws, AwsConformance, actions, make_backend
from tests.keys.aws import REGION, Client, client, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.backends import OpenBackend
    from securecfg.testing.faulty_proxy import Fault, FaultyProxy


@pytest.fixture
def uri(proxy: FaultyProxy) -> str:
    return f"awsssm:?region={REGION}&endpoint={proxy.url}"


@pytest.fixture
def backend(uri: str) -> OpenBackend:
    return open_backend(uri, patience=HASTY)


@pytest.fixture
def aws(port: int, empty: None) -> Client:
    return client("ssm", port)


class TestAwsParameters(AwsConformance):
    uri = "awsssm:shop"
    many = 45

    def fill(self, count: int) -> None:
        parameters = client("ssm", self._port)
        with ThreadPoolExecutor(4) as pool:
            names = [f"/shop/many/{number:05}" for number in range(count)]
            list(pool.map(lambda name: parameters.put_parameter(Name=name, Value="x", Type="SecureString"), names))


@pytest.mark.usefixtures("empty")
class TestAnswers(AnswersOfAws):
    scheme = "awsssm"
    environment = "AWS_ENDPOINT_URL_SSM"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "a b",
        "grüße",
        "a~b",
        "a:b",
        "a+b",
        "a=b",
        "aws",
        "awsome",
        "AWS/x",
        "ssm/x",
        "Ssmx",
        "/".join("x" * 16),
        "x" * 947,
    ],
)
def test_what_aws_takes_as_no_name_is_no_path(path: str, backend: OpenBackend, proxy: FaultyProxy) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: backend.read(path),
        lambda: backend.read_many(["a", path]),
        lambda: backend.versions(path),
        lambda: backend.write(path, "x"),
        lambda: backend.label(path, "canary", None),
        lambda: backend.delete(path),
    )
    for call in calls:
        with pytest.raises(InvalidPath):
            call()
    assert proxy.exchanges == []


@pytest.mark.parametrize("path", ["a", "/".join("x" * 15), "x/aws", "sms", "x" * 946])
def test_the_longest_and_the_deepest_are_held(path: str, backend: OpenBackend) -> None:
    backend.write(path, "1")
    assert plain(backend.read(path)) == "1"
    assert backend.list().paths == [path]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("", "/a/b"), ("/", "/a/b"), ("prod", "/prod/a/b"), ("prod/", "/prod/a/b"), ("/p/q", "/p/q/a/b")],
)
def test_a_folder_stands_in_front_of_every_name(folder: str, name: str, uri: str, aws: Client) -> None:
    backend = open_backend(uri.replace("awsssm:", f"awsssm:{folder}"))
    backend.write("a/b", "1")
    held = aws.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    assert (held["Value"], held["Type"]) == ("1", "SecureString")
    assert backend.list().paths == backend.list("a/").paths == ["a/b"]
    assert list(backend.read_many(["a/b", "a"])) == ["a/b"]


def test_a_folder_counts_among_the_levels(uri: str) -> None:
    backend = open_backend(uri.replace("awsssm:", "awsssm:a/b"))
    with pytest.raises(InvalidPath):
        backend.write("/".join("x" * 14), "1")
    backend.write("/".join("x" * 13), "1")


def test_other_folders_are_not_seen(uri: str, aws: Client) -> None:
    for name in ("/prod/a", "/production/a", "/a"):
        aws.put_parameter(Name=name, Value=name, Type="String")
    backend = open_backend(uri.replace("awsssm:", "awsssm:prod"))
    assert backend.list() == (["a"], 0)
    assert plain(backend.read("a")) == "/prod/a"


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "{{ssm:other}}", "a {{\n}} b", {"a": "{{b}}"}, b"bytes", {"a": b"bytes"}])
def test_what_aws_holds_as_no_value_is_refused_before_anything_is_sent(
    value: str | bytes, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    with pytest.raises(Unsupported):
        backend.write("a", value)
    assert proxy.exchanges == []


@pytest.mark.parametrize(
    ("options", "most", "tier"),
    [
        ("", 4_096, None),
        ("&tier=standard", 4_096, "Standard"),
        ("&tier=advanced", 8_192, "Advanced"),
        ("&tier=intelligent", 8_192, "Intelligent-Tiering"),
    ],
)
def test_the_tier_says_how_long_a_value_may_be(
    options: str, most: int, tier: str | None, uri: str, proxy: FaultyProxy
) -> None:
    backend = open_backend(uri + options)
    backend.write("a", "x" * most)
    assert json.loads(proxy.exchanges[-1].body).get("Tier") == tier
    with pytest.raises(ValueTooLarge):
        backend.write("a", "x" * (most + 1))
    with pytest.raises(ValueTooLarge):
        backend.write("a", {"a": "x" * (most - 2)})


def test_the_key_of_the_uri_encrypts_what_is_written(uri: str, proxy: FaultyProxy) -> None:
    open_backend(f"{uri}&key=alias/shop").write("a", "1")
    open_backend(uri).write("b", "1")
    assert [json.loads(exchange.body).get("KeyId") for exchange in proxy.exchanges] == ["alias/shop", None]


def test_parameters_that_are_not_encrypted_are_read_too(backend: OpenBackend, aws: Client) -> None:
    aws.put_parameter(Name="/plain", Value="text", Type="String")
    aws.put_parameter(Name="/list", Value="a,b", Type="StringList")
    assert {path: plain(found) for path, found in backend.read_many(["plain", "list"]).items()} == {
        "plain": "text",
        "list": "a,b",
    }


def test_a_listing_has_no_value_decrypted(backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1")
    proxy.exchanges.clear()
    backend.list()
    backend.versions("a")
    assert [json.loads(exchange.body)["WithDecryption"] for exchange in proxy.exchanges] == [False, False]


# --- versions and labels ----------------------------------------------------------------------------------------------


def test_versions_are_numbers(backend: OpenBackend) -> None:
    assert [backend.write("a", str(number)) for number in range(1, 13)] == [str(number) for number in range(1, 13)]
    assert [each.id for each in backend.versions("a")] == [str(number) for number in range(12, 0, -1)]
    assert plain(backend.read("a", "9")) == "9"


@pytest.mark.parametrize("version", ["0", "01", "13", "+1", "1.0", "a b", "1:2", "a:b", "aws", "9" * 40, "-"])
def test_what_can_be_no_version_is_not_found(version: str, backend: OpenBackend) -> None:
    backend.write("a", "1")
    with pytest.raises(VersionNotFound):
        backend.read("a", version)
    with pytest.raises(SecretNotFound):
        backend.read("b", version)
    with pytest.raises(VersionNotFound):
        backend.label("a", "canary", version)
    with pytest.raises(SecretNotFound):
        backend.label("b", "canary", version)


@pytest.mark.parametrize("label", ["1a", "aws", "AWSx", "ssm1", "a b", "a:b", "ä", "x" * 101])
def test_what_aws_takes_as_no_label_is_refused_before_anything_is_sent(
    label: str, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    for version in ("1", None):
        with pytest.raises(InvalidMetadata):
            backend.label("a", label, version)
    assert proxy.exchanges == []


def test_a_label_that_is_nowhere_cannot_be_taken_away(backend: OpenBackend) -> None:
    with pytest.raises(SecretNotFound):
        backend.label("a", "canary", None)
    backend.write("a", "1")
    with pytest.raises(VersionNotFound):
        backend.label("a", "canary", None)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_parameter_that_is_there_is_not_made_again(backend: OpenBackend, proxy: FaultyProxy) -> None:
    backend.write("a", "1", expect="")
    with pytest.raises(AlreadyExists):
        backend.write("a", "2", expect="")
    assert actions(proxy.exchanges) == ["PutParameter", "PutParameter"]
    assert plain(backend.read("a")) == "1"


def test_a_write_on_a_version_that_was_seen_is_unsupported(backend: OpenBackend, proxy: FaultyProxy) -> None:
    with pytest.raises(Unsupported):
        backend.write("a", "1", expect="1")
    assert proxy.exchanges == []


@pytest.mark.parametrize("fault", [Reset(), CutOff(), refusal("InternalServerError", 500)])
@pytest.mark.parametrize("expect", [None, ""])
def test_a_write_without_an_answer_is_sent_once(
    expect: str | None, fault: Fault, backend: OpenBackend, proxy: FaultyProxy
) -> None:
    proxy.fail_next(fault)
    with pytest.raises(CommitUnknown):
        backend.write("a", "1", expect=expect)
    assert actions(proxy.exchanges) == ["PutParameter"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TooManyUpdates", BackendNotReached),
        ("ParameterMaxVersionLimitExceeded", BackendRefused),
        ("ParameterLimitExceeded", BackendRefused),
        ("HierarchyLevelLimitExceededException", BackendRefused),
        ("InvalidKeyId", BackendRefused),
    ],
)
def test_gives_each_refusal_of_a_write_its_name(
    code: str, error: type[SecurecfgError], uri: str, proxy: FaultyProxy
) -> None:
    proxy.fail(refusal(code))
    with pytest.raises(error) as raised:
        open_backend(make_backend(uri), patience=HASTY).write("a", "canary")
    assert code in raised.value.message
    assert "canary" not in raised.value.message + raised.value.hint


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "a+b",
        "a=b",
        "aws",
        "/ssmx",
        "/".join("x" * 15),
        "?tier=Standard",
        "?tier=",
        "?key=",
        "?key=alias/",
        "?key=arn:aws:s3:eu-west-1:111122223333:key/1",
        "?tags=yes",
    ],
)
def test_refuses_what_the_parameter_store_has_not(rest: str) -> None:
    with pytest.raises(InvalidBackendUri):
        open_backend(f"awsssm:{rest}")


def test_takes_a_key_by_each_of_its_names() -> None:
    for key in ("alias/shop", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-west-1:111122223333:alias/shop"):
        open_backend(f"awsssm:prod?key={key}&tier=advanced")
