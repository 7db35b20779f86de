"""Access keys of one user of AWS IAM, which has two of them at most.

1. propose   has IAM issue a key, once what an earlier attempt left there is removed
2. apply     sees that the key is there and active
3. verify    asks STS who it belongs to
4. retire    deactivates the old key and deletes it

A key is removed in the first step only where it can be nobody's: made since the run began, stored nowhere, never used.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    ExtraMissing,
    InvalidRotation,
    PrivilegeMissing,
    RotationFailed,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.keys.aws import REGION, Outcome, failure_of, is_private, open_client, session_of
from securecfg.keys.discretion import discreet
from securecfg.keys.uri import distribution_for
from securecfg.rotation.deadline import Deadline
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.values import text_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from securecfg.keys.aws import Failure
    from securecfg.rotation.interface import Fields, Options, Run

T = TypeVar("T")

CLOCK_SKEW = timedelta(minutes=1)
"""By how much the clock of this machine may be ahead of that of AWS; where it is by more, a key that an attempt left
behind looks as if it had been there before, and a person is asked."""

KEY_ID, SECRET_KEY = "access_key_id", "secret_access_key"

_KEYS_MAX = 2
_USER = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}", re.ASCII)
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}", re.ASCII)
_SECRET_KEY = re.compile(r"[!-~]{1,128}", re.ASCII)
_ARN = re.compile(
    r"arn:aws[a-z-]{0,20}:iam::(?P<account>[0-9]{12}):user(?P<folder>/\S*?/|/)(?P<user>[^/\s]+)", re.ASCII
)
_NO_KEY = "AKIA0000000000000000"
"""Such as there is none: the digits of these ids are 2 to 7."""
_PASSING = frozenset({"ConcurrentModification", "EntityTemporarilyUnmodifiable"})
_NOT_THERE = "NoSuchEntity"


class _Key(NamedTuple):
    key_id: str
    is_active: bool
    created: datetime


class _Refused(RotationFailed):
    """AWS refuses what was asked, for a reason that is none of those that have an error of their own."""

    reason = ""


class AwsIamRotator:
    """Replaces the access key of a user.

    Args:
        user: Its name.
        region: Where IAM and STS are asked.
        login: What IAM is asked with, by the names of the fields; None for the current key itself.
    """

    strategy = Strategy.OVERLAPPING
    identity: frozenset[str] = frozenset()

    def __init__(self, user: str, region: str, login: Fields | None) -> None:
        """Call nothing yet."""
        self._user, self._region, self._login = user, region, login

    @property
    def target(self) -> str:
        """IAM, as it is asked from a region."""
        return f"aws iam {self._region}"

    def propose(self, run: Run, /) -> Candidate:
        """Have a key issued, and remove what an earlier attempt of this run has left.

        Raises:
            InvalidRotation: There is no such user, or the current key is none of its keys.
            RotationFailed: The user has another key, which somebody may be using.
            TargetUnavailable, CredentialRefused, PrivilegeMissing: AWS was asked, and issues none.
        """
        api = self._open(self._login or run.current, run)
        keys = self._list(api)
        stored = set() if run.current is None else {_key_id(run.current)}
        with suppress(InvalidRotation):  # there is none, or somebody has written something else by mistake
            stored.add(_key_id(run.previous))
        if run.current is not None and _key_id(run.current) not in {key.key_id for key in keys}:
            message = f"the access key that is stored is none of the user `{self._user}`"
            raise InvalidRotation(message, hint="write one of its keys first, or name the right user")
        self._remove_left(api, [key for key in keys if key.key_id not in stored], run)
        issued = self._change(
            api,
            "create_access_key",
            lambda answer: (answer["AccessKey"]["AccessKeyId"], answer["AccessKey"]["SecretAccessKey"]),
        )
        key_id, secret_key = issued
        return Candidate({**(run.current or {}), KEY_ID: Secret(str(key_id)), SECRET_KEY: Secret(str(secret_key))})

    def apply(self, run: Run, /) -> None:
        """See that the key is there, and activate it where somebody has deactivated it.

        Raises:
            CandidateRejected: Somebody has deleted it.
            TargetUnavailable, CredentialRefused, PrivilegeMissing: AWS was asked, and does not say so.
        """
        pending = _key_id(run.pending)
        api = self._open(self._login or run.current, run)
        found = next((key for key in self._list(api) if key.key_id == pending), None)
        if found is None:
            message = f"the new access key of the user `{self._user}` is not there any more"
            raise CandidateRejected(message)
        if not found.is_active:
            self._change(api, "update_access_key", _nothing, AccessKeyId=pending, Status="Active")

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that AWS takes a key, and for one of the user's in the account of the current key.

        Raises:
            CredentialRefused: It does not.
            InvalidRotation: It is a key of somebody else.
            TargetUnavailable: AWS cannot be asked.
        """
        deadline = Deadline(run.timeout_s, "AWS")
        found = self._owner(value, deadline)
        account = found["account"] if found is not None and found["user"] == self._user else ""
        if account and run.current is not None and _key_id(run.current) != _key_id(value):
            try:
                current = self._owner(run.current, deadline)
            except CredentialRefused:
                current = found  # it is gone, so there is nobody to compare with
            account = account if current is not None and current["account"] == account else ""
        if not account:
            message = f"an access key is none of the user `{self._user}` in the account of the current one"
            raise InvalidRotation(message)

    def retire(self, run: Run, /) -> None:
        """Deactivate the old key and delete it; nothing where it is gone.

        Raises:
            InvalidRotation: It is the current one.
            TargetUnavailable, CredentialRefused, PrivilegeMissing: AWS was asked, and does not do it.
        """
        previous = _key_id(run.previous)
        if run.current is not None and previous == _key_id(run.current):
            message = "the old access key is the current one"
            raise InvalidRotation(message)
        api = self._open(self._login or run.current, run)
        found = next((key for key in self._list(api) if key.key_id == previous), None)
        if found is not None and found.is_active:
            self._change(api, "update_access_key", _nothing, AccessKeyId=previous, Status="Inactive")
        if found is not None:
            self._delete(api, previous)

    def check(self, run: Run, /) -> Sequence[str]:
        """Return what is missing: permissions of the login, and room for a second key.

        `iam:CreateAccessKey` cannot be tried without making a key. The others are, with a key that there is not.

        Raises:
            InvalidRotation: There is no such user.
            TargetUnavailable, CredentialRefused: AWS cannot be asked.
        """
        api = self._open(self._login or run.current, run)
        missing = []
        keys: list[_Key] = []
        try:
            keys = self._list(api)
        except PrivilegeMissing:
            missing.append(self._permission("ListAccessKeys"))
        asked_with = _key_id(self._login or run.current)
        probes: dict[str, dict[str, object]] = {
            "get_access_key_last_used": {"AccessKeyId": asked_with},
            "update_access_key": {"UserName": self._user, "AccessKeyId": _NO_KEY, "Status": "Inactive"},
            "delete_access_key": {"UserName": self._user, "AccessKeyId": _NO_KEY},
        }
        for operation, given in probes.items():
            try:
                api.ask("iam", operation, _nothing, **given)
            except PrivilegeMissing:
                missing.append(self._permission(_action(operation)))
            except _Refused:
                pass  # there is no such key, which only who may do it is told
        former = ""
        with suppress(InvalidRotation):  # there is none, or something else
            former = _key_id(run.previous)
        # What is retired when its grace is over takes no room from the next rotation.
        if len([key for key in keys if key.key_id != former]) >= _KEYS_MAX:
            missing.append(f"room for another access key: the user `{self._user}` has two")
        return missing

    def _permission(self, action: str) -> str:
        return f"`iam:{action}` on the user `{self._user}`"

    def _open(self, login: Fields | None, run: Run) -> _Api:
        if login is None:
            message = "the first access key of a user is made by hand, or with a login of its own"
            raise InvalidRotation(message, hint=f"give the options `admin_{KEY_ID}` and `admin_{SECRET_KEY}`")
        return _Api(self._region, login, Deadline(run.timeout_s, "AWS"))

    def _owner(self, value: Fields, deadline: Deadline) -> re.Match[str] | None:
        arn = _Api(self._region, value, deadline).ask("sts", "get_caller_identity", lambda answer: str(answer["Arn"]))
        return _ARN.fullmatch(arn)

    def _list(self, api: _Api) -> list[_Key]:
        """Return all keys; two are at most one page."""

        def understand(answer: Any) -> list[_Key]:  # noqa: ANN401 - an answer of botocore
            found = [
                _Key(str(each["AccessKeyId"]), each["Status"] == "Active", each["CreateDate"])
                for each in answer["AccessKeyMetadata"]
            ]
            if answer.get("IsTruncated") or not all(key.created.tzinfo for key in found):
                raise ValueError
            return found

        return self._change(api, "list_access_keys", understand)

    def _remove_left(self, api: _Api, unknown: Sequence[_Key], run: Run) -> None:
        """Delete keys that an earlier attempt has left; refuse to go on where there is one that may be somebody's.

        Raises:
            RotationFailed: There is.
        """
        for key in unknown:
            is_ours = key.created >= run.since - CLOCK_SKEW and not self._is_used(api, key)
            if not is_ours:
                message = f"the user `{self._user}` has another access key, which is not stored here"
                hint = f"see who uses it (`aws iam list-access-keys --user-name {self._user}`), then delete it"
                raise RotationFailed(message, hint=hint)
        for key in unknown:
            self._delete(api, key.key_id)

    def _is_used(self, api: _Api, key: _Key) -> bool:
        def understand(answer: Any) -> bool:  # noqa: ANN401 - an answer of botocore
            return answer["AccessKeyLastUsed"].get("LastUsedDate") is not None

        return api.ask("iam", "get_access_key_last_used", understand, AccessKeyId=key.key_id)

    def _delete(self, api: _Api, key_id: str) -> None:
        try:
            api.ask("iam", "delete_access_key", _nothing, UserName=self._user, AccessKeyId=key_id)
        except _Refused as refused:
            if refused.reason == _NOT_THERE:
                return
            failure = self._failure_of(refused)
        else:
            return
        raise failure

    def _change(self, api: _Api, operation: str, understand: Callable[[Any], T], **given: object) -> T:
        try:
            return api.ask("iam", operation, understand, UserName=self._user, **given)
        except _Refused as refused:
            failure = self._failure_of(refused)
        raise failure

    def _failure_of(self, refused: _Refused) -> SecurecfgError:
        match refused.reason:
            case "NoSuchEntity":
                message = f"IAM knows no user `{self._user}`, or none with this key"
                return InvalidRotation(message)
            case "LimitExceeded":
                message = f"the user `{self._user}` has as many access keys as a user may have"
                return RotationFailed(message, hint="see who uses the one that is not stored, then delete it")
            case _:
                return refused


class _Api:
    """IAM and STS, asked with one access key until the time is up.

    Args:
        region: Where.
        login: The access key, by the names of the fields.
        deadline: When it is.
    """

    def __init__(self, region: str, login: Fields, deadline: Deadline) -> None:
        self._region, self._deadline = region, deadline
        secret_key = text_of(login, SECRET_KEY)
        if not _SECRET_KEY.fullmatch(secret_key.reveal()):
            message = f"the field `{SECRET_KEY}` holds no secret access key"
            raise InvalidRotation(message)
        self._credentials = {"AWS_ACCESS_KEY_ID": Secret(_key_id(login)), "AWS_SECRET_ACCESS_KEY": secret_key}
        self._session: Any = None

    def ask(self, service: str, operation: str, understand: Callable[[Any], T], **given: object) -> T:
        """Return what an answer means; the request is sent once.

        Raises:
            RotationFailed: The service refuses, for a reason that is none of these.
            CredentialRefused: It does not know the access key.
            PrivilegeMissing: The key may not do this.
            TargetUnavailable: It cannot be asked, or gives no answer.
            ExtraMissing: The package that asks is missing.
        """
        try:
            import botocore.session  # noqa: F401 - whose loggers have to be there before they can be kept quiet
        except ImportError:
            message = "the rotator `awsiam` needs the package `boto3`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for('awsiam')}") from None
        answer = self._deadline.bound(lambda: self._ask(service, operation, understand, given))
        if isinstance(answer, SecurecfgError):
            raise answer
        return answer

    def _ask(
        self, service: str, operation: str, understand: Callable[[Any], T], given: Mapping[str, object]
    ) -> T | SecurecfgError:
        """Return an answer, or the error that it comes to."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        with discreet("botocore", "urllib3"):
            try:
                if self._session is None:
                    self._session = session_of({name: each.reveal() for name, each in self._credentials.items()})
                client = open_client(service, self._region, None, self._session, self._deadline.left_s())
                if not is_private(client.meta.endpoint_url):
                    # It may come from the AWS settings; a new key would cross the network in the clear.
                    message = f"the endpoint of {service} in the AWS settings is neither `https://` nor this machine"
                    hint = f"look at `AWS_ENDPOINT_URL_{service.upper()}` and `endpoint_url`"
                    return InvalidRotation(message, hint=hint)
                return understand(getattr(client, operation)(**given))
            except (KeyError, TypeError, ValueError, AttributeError, ResponseParserError):
                return TargetUnavailable("AWS gave no answer that can be understood", hint="try again later")
            except (ClientError, BotoCoreError) as error:
                return _error_of(failure_of(error), service, operation)
            except TargetUnavailable as error:
                return error


def from_options(options: Options) -> AwsIamRotator:
    """Return the rotator `awsiam`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("awsiam", options)
    user, region = given.text("user"), given.text("region", "us-east-1")
    key_id, secret_key = given.secret(f"admin_{KEY_ID}"), given.secret(f"admin_{SECRET_KEY}")
    given.finish()
    if not _USER.fullmatch(user):
        message = "the option `user` of the rotator `awsiam` is the name of a user, without its path"
        raise InvalidRotation(message)
    if not REGION.fullmatch(region):
        message = "the option `region` of the rotator `awsiam` is not one"
        raise InvalidRotation(message, hint="for instance `eu-west-1`")
    if (key_id is None) != (secret_key is None):
        message = f"of the options `admin_{KEY_ID}` and `admin_{SECRET_KEY}` there are both or none"
        raise InvalidRotation(message)
    login = None if key_id is None or secret_key is None else {KEY_ID: key_id, SECRET_KEY: secret_key}
    return AwsIamRotator(user, region, login)


def _key_id(value: Fields | None) -> str:
    """Return the id of an access key.

    Raises:
        InvalidRotation: There is none that looks like one.
    """
    key_id = text_of(value, KEY_ID).reveal()
    if not _KEY_ID.fullmatch(key_id):
        message = f"the field `{KEY_ID}` holds no id of an access key"
        raise InvalidRotation(message)
    return key_id


def _nothing(answer: object) -> None:
    """Understand that it was done."""


def _action(operation: str) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))


def _error_of(failure: Failure, service: str, operation: str) -> SecurecfgError:
    shown = failure.shown_code
    error: SecurecfgError
    match failure.outcome:
        case Outcome.NO_CREDENTIALS | Outcome.NO_REGION:
            message = "the AWS settings of this machine cannot be used"
            error = InvalidRotation(message, hint="look at AWS_PROFILE and AWS_CONFIG_FILE")
        case Outcome.LOGIN_REFUSED:
            error = CredentialRefused(f"AWS does not take an access key{shown}")
        case Outcome.DENIED:
            hint = f"it needs `{service}:{_action(operation)}` on the user"
            error = PrivilegeMissing(f"AWS does not let an access key do this{shown}", hint=hint)
        case Outcome.REFUSED if failure.code not in _PASSING:
            error = _Refused(f"AWS refuses what was asked{shown}", hint="CloudTrail may say more")
            error.reason = failure.code
        case Outcome.NOT_REACHED:
            error = TargetUnavailable("AWS cannot be reached", hint="try again later")
        case Outcome.THROTTLED:
            error = TargetUnavailable(f"AWS has been asked too often{shown}", hint="try again later")
        case _:
            what = f"is disturbed{shown}" if failure.is_answer else "gave no answer"
            error = TargetUnavailable(f"AWS {what}", hint="it may or may not have done what it was asked")
    return error
