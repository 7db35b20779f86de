"""The rotator `awsiam` against moto's server, which checks signatures and policies, with a proxy before it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    RotationFailed,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation import ChecksPrivileges, Run, open_rotator
from securecfg.rotation.rotators.awsiam import from_options
from securecfg.secret import Secret
from securecfg.testing.faulty_proxy import Answer, CutOff, Delay, FaultyProxy, Reset, Silence, SlowBody
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from securecfg.testing.rotator_conformance import (
    RotatorConformance,
    begin,
    plain,
    propose,
    propose_and_apply,
    swap,
)
from tests.backends.aws.cases import SETTINGS
from tests.keys.aws import ACCESS_KEY, SECRET_KEY, Client, client, moto
from tests.keys.key_service import closed_port, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation import Candidate, Fields, Options, Rotator
    from securecfg.testing.faulty_proxy import Fault

KEYS = ("ListAccessKeys", "GetAccessKeyLastUsed", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey")
_NUMBERS = count()


class Server(NamedTuple):
    """A server, and the key of somebody who may do everything with IAM."""

    port: int
    admin: tuple[str, str]

    def iam(self) -> Client:
        return _iam(self.port, self.admin)

    def new_user(self, *actions: str) -> tuple[str, Fields]:
        """Return a user with one key, who may do this."""
        iam, name = self.iam(), f"web-{next(_NUMBERS)}"
        iam.create_user(UserName=name, Path="/shop/")
        statement = {"Effect": "Allow", "Action": [f"iam:{action}" for action in actions], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        if actions:
            iam.put_user_policy(UserName=name, PolicyName="keys", PolicyDocument=policy)
        return name, self.new_key(name)

    def new_key(self, user: str) -> Fields:
        key = self.iam().create_access_key(UserName=user)["AccessKey"]
        return {
            "access_key_id": Secret(key["AccessKeyId"]),
            "secret_access_key": Secret(key["SecretAccessKey"]),
            "owner": Secret("payments-team"),
        }

    def key_ids(self, user: str) -> list[str]:
        return [key["AccessKeyId"] for key in self.iam().list_access_keys(UserName=user)["AccessKeyMetadata"]]


@cache
def _iam(port: int, keys: tuple[str, str]) -> Client:
    return client("iam", port, keys=keys)


@pytest.fixture(scope="module", autouse=True)
def _descriptions_are_read_once() -> Iterator[None]:
    """Let botocore look for AWS's descriptions of its services once, and not once for each client."""
    loaders = pytest.importorskip("botocore.loaders", reason="needs the package `boto3`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(loaders.create_loader))
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto(INITIAL_NO_AUTH_ACTION_COUNT="3") as port:
        iam = client("iam", port)
        iam.create_user(UserName="admin")
        allowed = {"Effect": "Allow", "Action": "iam:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="admin")["AccessKey"]
        yield Server(port, (key["AccessKeyId"], key["SecretAccessKey"]))


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the server, to which the AWS settings lead; those of this machine are out of the way."""
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, "/nonexistent")
    # Whose key this is nobody knows: it must not be asked with.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


class User:
    """A user with one key."""

    is_remote = True

    def __init__(self, server: Server, proxy: FaultyProxy, *actions: str, by_admin: bool = False) -> None:
        self.server, self.proxy = server, proxy
        self.name, self.current = server.new_user(*actions)
        self.options: Options = {"user": self.name}
        if by_admin:
            key_id, secret_key = server.admin
            self.options = {
                **self.options,
                "admin_access_key_id": Secret(key_id),
                "admin_secret_access_key": Secret(secret_key),
            }

    def accepts(self, value: Fields, /) -> bool:
        from botocore.exceptions import ClientError

        shown = {name: str(text) for name, text in plain(value).items()}
        sts = client("sts", self.server.port, keys=(shown["access_key_id"], shown["secret_access_key"]))
        try:
            return bool(sts.get_caller_identity()["Arn"].endswith(f"/{self.name}"))
        except ClientError:
            return False

    def cut_off(self) -> None:
        self.proxy.fail(Reset())

    def restore(self) -> None:
        self.proxy.fail(None)

    def key_ids(self) -> list[str]:
        return self.server.key_ids(self.name)

    def rotator(self) -> Rotator:
        return from_options(self.options)


@pytest.fixture
def user(server: Server, proxy: FaultyProxy) -> User:
    return User(server, proxy, *KEYS)


def spoiled(value: Fields) -> Fields:
    return {**value, "secret_access_key": Secret("canary-secret-access-key-nobody-has-this")}


class TestAwsIam(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    def spoil(self, rotator: Rotator, value: Fields) -> Fields:
        return spoiled(value)

    @pytest.fixture(params=["itself", "admin"])
    def target(self, request: pytest.FixtureRequest, server: Server, proxy: FaultyProxy) -> User:
        if request.param == "admin":
            return User(server, proxy, by_admin=True)
        return User(server, proxy, *KEYS)


# --- what an attempt has left -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Delay(0), CutOff()])
def test_a_key_that_nobody_has_stored_is_removed(fault: Fault, user: User) -> None:
    run = begin(user)
    user.proxy.fail_next(Delay(0), fault)
    try:
        user.rotator().propose(run)
    except TargetUnavailable:
        assert isinstance(fault, CutOff)
    left = user.key_ids()
    assert len(left) == 2
    found = plain(propose(user.rotator(), run).pending)
    assert user.key_ids() == [plain(user.current)["access_key_id"], found["access_key_id"]]
    assert found["access_key_id"] not in left
    assert found["owner"] == "payments-team"


def test_a_key_that_was_there_before_the_run_is_left_alone(user: User) -> None:
    user.server.new_key(user.name)
    there = user.key_ids()
    later = begin(user)._replace(since=datetime.now(UTC) + timedelta(minutes=2))
    with pytest.raises(RotationFailed) as failed:
        user.rotator().propose(later)
    assert "list-access-keys" in failed.value.hint
    assert user.key_ids() == there


def test_a_key_that_was_used_is_left_alone(user: User) -> None:
    run = begin(user)
    key = user.server.new_key(user.name)
    assert user.accepts(key)
    there = user.key_ids()
    with pytest.raises(RotationFailed):
        user.rotator().propose(run)
    assert user.key_ids() == there


def test_the_previous_key_is_left_alone(user: User) -> None:
    previous = user.server.new_key(user.name)
    there = user.key_ids()
    with pytest.raises(RotationFailed) as failed:
        user.rotator().propose(begin(user)._replace(previous=previous))
    assert "as many access keys" in failed.value.message
    assert user.key_ids() == there


def test_a_previous_value_that_holds_no_key_is_in_nobodys_way(user: User) -> None:
    run = begin(user)._replace(previous={"": Secret("canary-by-mistake")})
    user.rotator().propose(run)
    assert len(user.key_ids()) == 2


# --- whose key it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_admin", [False, True])
def test_a_key_of_another_user_has_none_issued_and_is_not_taken(
    by_admin: bool, server: Server, proxy: FaultyProxy
) -> None:
    user, (_, other) = User(server, proxy, *KEYS, by_admin=by_admin), server.new_user(*KEYS)
    run = begin(user)._replace(current=other)
    for call in (lambda: user.rotator().propose(run), lambda: user.rotator().verify(other, run)):
        with pytest.raises(InvalidRotation):
            call()
    assert len(user.key_ids()) == 1


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::111122223333:user/shop/{user}",
        "arn:aws:sts::123456789012:assumed-role/{user}/{user}",
        "arn:aws:iam::123456789012:user/{user}-2",
        "arn:aws:iam::123456789012:root",
        "",
    ],
)
def test_a_key_of_another_account_is_not_taken(arn: str, user: User) -> None:
    answer = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>{arn.format(user=user.name)}</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    run = propose(user.rotator(), begin(user))
    assert run.pending is not None
    user.proxy.fail_next(Answer(200, answer.encode(), {"Content-Type": "text/xml"}))
    with pytest.raises(InvalidRotation):
        user.rotator().verify(run.pending, run)


def test_a_key_is_taken_where_the_current_one_is_gone(user: User) -> None:
    run = propose_and_apply(user.rotator(), user)
    assert run.pending is not None
    user.server.iam().delete_access_key(UserName=user.name, AccessKeyId=plain(user.current)["access_key_id"])
    user.rotator().verify(run.pending, run)


def test_the_current_key_is_not_retired(user: User) -> None:
    run = begin(user)._replace(previous=user.current)
    with pytest.raises(InvalidRotation):
        user.rotator().retire(run)
    assert user.accepts(user.current)


@pytest.mark.parametrize(
    "value",
    [
        {"": Secret("canary-value-4711")},
        {"access_key_id": Secret(ACCESS_KEY)},
        {"access_key_id": Secret("canary id\n"), "secret_access_key": Secret("x")},
        {"access_key_id": Secret("\udcff" * 20), "secret_access_key": Secret("x")},
        {"access_key_id": Secret(b"\xff" * 20), "secret_access_key": Secret("x")},
        {"access_key_id": Secret(ACCESS_KEY), "secret_access_key": Secret(b"\xff")},
    ],
)
def test_refuses_a_value_that_is_no_access_key(value: Fields, user: User) -> None:
    run = begin(user)._replace(current=value)
    with pytest.raises(InvalidRotation) as refused:
        user.rotator().propose(run)
    assert "canary" not in str(refused.value) + refused.value.hint


def test_without_a_login_the_first_key_is_made_by_hand(user: User) -> None:
    with pytest.raises(InvalidRotation) as refused:
        user.rotator().propose(begin(user)._replace(current=None))
    assert "admin_access_key_id" in refused.value.hint


# --- what people do meanwhile -----------------------------------------------------------------------------------------


def test_a_candidate_that_was_deactivated_is_activated(user: User) -> None:
    run = propose(user.rotator(), begin(user))
    assert run.pending is not None
    key_id = plain(run.pending)["access_key_id"]
    user.server.iam().update_access_key(UserName=user.name, AccessKeyId=key_id, Status="Inactive")
    with pytest.raises(CredentialRefused):
        user.rotator().verify(run.pending, run)
    user.rotator().apply(run)
    user.rotator().verify(run.pending, run)


def test_a_candidate_that_was_deleted_is_rejected(user: User) -> None:
    run = propose(user.rotator(), begin(user))
    user.server.iam().delete_access_key(UserName=user.name, AccessKeyId=plain(run.pending)["access_key_id"])
    with pytest.raises(CandidateRejected):
        user.rotator().apply(run)


def test_a_key_that_goes_while_it_is_retired_is_retired(user: User) -> None:
    run = swap(propose_and_apply(user.rotator(), user))
    gone = Answer(404, b"<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>")
    user.proxy.fail_next(Delay(0), Delay(0), gone)
    user.rotator().retire(run)


def test_an_old_key_is_deactivated_before_it_is_deleted(user: User) -> None:
    run = swap(propose_and_apply(user.rotator(), user))
    assert run.previous is not None
    user.proxy.fail_next(Delay(0), Delay(0), Reset())
    with pytest.raises(TargetUnavailable):
        user.rotator().retire(run)
    assert len(user.key_ids()) == 2
    assert not user.accepts(run.previous)
    user.rotator().retire(run)
    assert len(user.key_ids()) == 1


def test_a_user_that_there_is_not_is_no_target(server: Server, proxy: FaultyProxy) -> None:
    user = User(server, proxy, by_admin=True)
    with pytest.raises(InvalidRotation) as refused:
        from_options({**user.options, "user": "nobody"}).propose(begin(user))
    assert "nobody" in refused.value.message


# --- how it fails -----------------------------------------------------------------------------------------------------


def _xml(code: str) -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>canary of AWS</Message></Error></ErrorResponse>".encode()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(403, _xml("InvalidClientTokenId")), CredentialRefused),
        (Answer(403, _xml("SignatureDoesNotMatch")), CredentialRefused),
        (Answer(403, _xml("AccessDenied")), PrivilegeMissing),
        (Answer(400, _xml("Throttling")), TargetUnavailable),
        (Answer(409, _xml("EntityTemporarilyUnmodifiable")), TargetUnavailable),
        (Answer(500, _xml("ServiceFailure")), TargetUnavailable),
        (Answer(503, b"canary"), TargetUnavailable),
        (Answer(400, _xml("ValidationError")), RotationFailed),
        (Answer(404, _xml("NoSuchEntity")), InvalidRotation),
        (Answer(200, b"<html>canary of AWS"), TargetUnavailable),
        (Answer(200, b"<ListAccessKeysResponse><ListAccessKeysResult/></ListAccessKeysResponse>"), TargetUnavailable),
        (Reset(), TargetUnavailable),
        (CutOff(), TargetUnavailable),
    ],
)
def test_what_aws_says_is_told_apart_and_not_shown(answer: Fault, error: type[SecurecfgError], user: User) -> None:
    user.proxy.fail(answer)
    run = begin(user)._replace(pending=user.current, previous=user.current, current=None)
    rotator = from_options({**user.options, **_login(user.current)})
    for call in (lambda: rotator.propose(begin(user)), lambda: rotator.apply(run), lambda: rotator.retire(run)):
        with pytest.raises(error) as failed:
            call()
        assert type(failed.value) is error or issubclass(error, RotationFailed)
        assert "canary" not in str(failed.value) + failed.value.hint
        assert failed.value.__cause__ is None


def _login(key: Fields) -> Options:
    return {f"admin_{name}": key[name] for name in ("access_key_id", "secret_access_key")}


@pytest.mark.parametrize("fault", [Silence(), SlowBody(0.05)])
@pytest.mark.parametrize("step", ["propose", "verify"])
def test_a_slow_service_is_not_waited_for(fault: Fault, step: str, user: User) -> None:
    user.proxy.fail(fault)
    run = begin(user)._replace(timeout_s=0.3)
    begun = time.monotonic()
    rotator = user.rotator()
    with pytest.raises(TargetUnavailable):
        rotator.propose(run) if step == "propose" else rotator.verify(user.current, run)
    assert time.monotonic() - begun < 1.3


def test_where_nobody_listens_is_unavailable(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TargetUnavailable):
        user.rotator().verify(user.current, begin(user))


@pytest.mark.parametrize("endpoint", ["http://192.0.2.1", "http://localhost.example.com:8000"])
def test_an_endpoint_that_shows_keys_to_the_network_is_not_asked(
    endpoint: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InvalidRotation) as refused:
        user.rotator().propose(begin(user))
    assert "AWS_ENDPOINT_URL_IAM" in refused.value.hint


def test_a_wrong_login_is_refused(server: Server, proxy: FaultyProxy) -> None:
    user = User(server, proxy, by_admin=True)
    rotator = from_options({**user.options, "admin_secret_access_key": Secret("canary-secret-4711")})
    with pytest.raises(CredentialRefused):
        rotator.propose(begin(user))
    assert len(user.key_ids()) == 1


# --- privileges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [key for key in KEYS if key != "GetAccessKeyLastUsed"])
def test_a_missing_permission_is_named(missing: str, server: Server, proxy: FaultyProxy) -> None:
    user = User(server, proxy, *(key for key in KEYS if key != missing))
    rotator = user.rotator()
    with pytest.raises(PrivilegeMissing) as failed:
        rotator.retire(swap(propose_and_apply(rotator, user)))
    assert f"`iam:{missing}`" in failed.value.hint
    assert user.accepts(user.current) or missing == "DeleteAccessKey"


@pytest.mark.parametrize("missing", ["", *(key for key in KEYS if key != "CreateAccessKey")])
def test_a_missing_permission_is_found_before_anything_is_changed(
    missing: str, server: Server, proxy: FaultyProxy
) -> None:
    user = User(server, proxy, *(key for key in KEYS if key != missing))
    rotator = user.rotator()
    assert isinstance(rotator, ChecksPrivileges)
    found = rotator.check(begin(user))
    assert list(found) == ([f"`iam:{missing}` on the user `{user.name}`"] if missing else [])
    assert len(user.key_ids()) == 1


def test_a_second_key_is_found_before_the_first_rotation(user: User) -> None:
    user.server.new_key(user.name)
    rotator = user.rotator()
    assert isinstance(rotator, ChecksPrivileges)
    [found] = rotator.check(begin(user))
    assert "has two" in found


def test_the_key_before_takes_no_room_from_the_next_rotation(user: User) -> None:
    rotator = user.rotator()
    assert isinstance(rotator, ChecksPrivileges)
    run = begin(user)
    new = rotator.propose(run).value
    assert not isinstance(new, Secret)
    assert list(rotator.check(run._replace(current=new, previous=run.current))) == []


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"user": ""},
        {"user": "shop/web"},
        {"user": "web&Action=DeleteUser"},
        {"user": "web\n"},
        {"user": "wéb"},
        {"user": "x" * 65},
        {"user": Secret("canary")},
        {"user": "web", "region": "eu west"},
        {"user": "web", "region": "evil.example/"},
        {"user": "web", "endpoint": "https://evil.example"},
        {"user": "web", "admin_access_key_id": Secret(ACCESS_KEY)},
        {"user": "web", "admin_secret_access_key": Secret("canary")},
        {"user": "web", "admin_access_key_id": ACCESS_KEY, "admin_secret_access_key": "canary"},
        {"user": "web", "admin_access_key_id": Secret(ACCESS_KEY), "admin_secret_access_key": Secret(b"canary")},
    ],
)
def test_refuses_options_that_make_no_sense(options: Options) -> None:
    with pytest.raises(InvalidRotation) as refused:
        from_options(options)
    assert "canary" not in str(refused.value) + refused.value.hint


def test_is_found_by_its_name() -> None:
    assert open_rotator("awsiam", {"user": "web", "region": "eu-west-1"}).target == "aws iam eu-west-1"


def test_imports_its_client_when_it_asks_and_says_what_to_install() -> None:
    printed = run_python(
        "import sys\nfrom datetime import UTC, datetime\nfrom securecfg.errors import ExtraMissing\n"
        "from securecfg.rotation import Run, open_rotator\nfrom securecfg.secret import Secret\n"
        "rotator = open_rotator('awsiam', {'user': 'web'})\n"
        "assert not [name for name in sys.modules if name.startswith('boto')]\n"
        "for name in ('botocore.session', 'botocore'):\n    sys.modules[name] = None\n"
        "key = {'access_key_id': Secret('AKIAIOSFODNN7CANARY0'), 'secret_access_key': Secret('x')}\n"
        "try:\n    rotator.verify(key, Run('a1' * 16, datetime.now(UTC), 1.0))\n"
        "except ExtraMissing as error:\n    print(error.hint)\n"
    )
    assert printed == "pip install 'securecfg-vault[awsiam]'"


def test_nothing_is_asked_without_time() -> None:
    with pytest.raises(TargetUnavailable):
        from_options({"user": "web"}).verify(
            {"access_key_id": Secret(ACCESS_KEY), "secret_access_key": Secret("x")},
            Run("a1" * 16, datetime.now(UTC), 0.0),
        )


class _ByItsClock:
    """A rotator for a server that goes by the clock of the machine, asked by who goes by a simulated one."""

    def __init__(self, rotator: Rotator, since: dict[str, datetime]) -> None:
        self._rotator, self._since = rotator, since
        self.strategy, self.target, self.identity = rotator.strategy, rotator.target, rotator.identity

    def propose(self, run: Run, /) -> Candidate:
        return self._rotator.propose(self._told(run))

    def apply(self, run: Run, /) -> None:
        self._rotator.apply(self._told(run))

    def verify(self, value: Fields, run: Run, /) -> None:
        self._rotator.verify(value, self._told(run))

    def retire(self, run: Run, /) -> None:
        self._rotator.retire(self._told(run))

    def _told(self, run: Run) -> Run:
        return run._replace(since=self._since.setdefault(run.token, datetime.now(UTC)))


class TestAwsIamCutOff(RotationKillMatrix):
    sample = 1

    @cached_property
    def since(self) -> dict[str, datetime]:
        """When each token was noted, which is before AWS is asked under it."""
        return {}

    def make(self, options: Options) -> Rotator:
        return _ByItsClock(from_options(options), self.since)

    @pytest.fixture
    def target(self, server: Server, proxy: FaultyProxy) -> User:
        return User(server, proxy, by_admin=True)
