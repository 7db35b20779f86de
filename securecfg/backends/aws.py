"""What the backends of AWS share: a client for each process, what its answers mean, and a folder of names."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from securecfg.backends.refusal import Refusal
from securecfg.backends.uri import is_wanted
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    ExtraMissing,
    InvalidBackendUri,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    SettingMissing,
    VersionNotFound,
)
from securecfg.keys.aws import (
    ENDPOINT,
    REGION,
    Outcome,
    failure_of,
    is_private,
    open_client,
    session_of,
    session_without_metadata,
)
from securecfg.keys.discretion import discreet
from securecfg.keys.per_process import PerProcess
from securecfg.keys.uri import distribution_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from securecfg.backends.interface import BackendUri
    from securecfg.keys.aws import Failure
    from securecfg.secret import Secret

T = TypeVar("T")
Answer = Any
"""An answer of botocore: a mapping as AWS describes it for each call."""

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PLACE_OPTIONS = ("region", "endpoint", "metadata")

_PREFIX = re.compile(r"/?(?:[A-Za-z0-9_.+=-]+/)*", re.ASCII)
_PREFIX_LENGTH_MAX = 256


class Place(NamedTuple):
    """Where a service is asked, and as whom.

    Attributes:
        region: None for that of the AWS settings.
        endpoint_url: None for the region's public endpoint.
        asks_metadata: Whether credentials may come from the metadata service of a machine or a container.
        credentials: Those that stand before all others, by the names of AWS's variables.
    """

    region: str | None
    endpoint_url: str | None
    asks_metadata: bool
    credentials: Mapping[str, Secret[str]] = MappingProxyType({})


class AwsApi:
    """A service of AWS that is asked once for each call.

    Args:
        scheme: Of the URI.
        name: As botocore calls the service.
        title: As people call it.
        place: Where it is.
    """

    def __init__(self, scheme: str, name: str, title: str, place: Place) -> None:
        """Call nothing, and import nothing yet."""
        self._scheme = scheme
        self._name = name
        self._title = title
        self._place = place
        self._client = PerProcess(self._make_client)

    @property
    def where(self) -> str:
        """What the service is called in errors."""
        return f"{self._title} in {self._place.region or 'the region of the AWS settings'}"

    def ask(self, operation: str, understand: Callable[[Answer], T], **given: object) -> T:
        """Return what an answer means.

        Args:
            operation: The client's method.
            understand: Returns what is wanted of the answer.
            given: What is asked.

        Raises:
            Refusal: The service refuses, for a reason that has no error of its own.
            SecurecfgError: See section 7 of the contract.
        """
        try:
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.parsers import ResponseParserError
        except ImportError:
            message = f"`{self._scheme}:` needs the package `boto3`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for(self._scheme)}") from None
        failed: SecurecfgError
        try:
            call = getattr(self._client.get(), operation)
            with discreet("botocore", "urllib3"):
                return understand(call(**given))
        except (KeyError, TypeError, ValueError, AttributeError, ResponseParserError):
            failed = self._disturbed("gave no answer that can be understood")
        except (ClientError, BotoCoreError) as error:
            failed = self.error_of(failure_of(error), operation)
        raise failed  # here, so that it drags along no frame and no text of the client

    def pages(self, operation: str, understand: Callable[[Answer], list[T]], **given: object) -> Iterator[T]:
        """Yield what all pages of an answer hold, each asked for when it is needed."""
        token: object = None
        while True:
            more = {"NextToken": token} if token else {}
            found, following = self.ask(
                operation, lambda answer: (understand(answer), answer.get("NextToken")), **given, **more
            )
            yield from found
            if not following:
                return
            if following == token:
                what = "gives the same page for ever"
                raise self._disturbed(what)
            token = following

    def _make_client(self) -> Any:  # noqa: ANN401 - made at run time from AWS's description of the service
        import botocore.session  # noqa: F401 - whose loggers have to be there before they can be kept quiet

        region, endpoint_url, asks_metadata, credentials = self._place
        with discreet("botocore", "urllib3"):  # credentials may be fetched here
            if credentials:
                session = session_of({name: secret.reveal() for name, secret in credentials.items()})
            else:
                session = None if asks_metadata else session_without_metadata()
            client = open_client(self._name, region, endpoint_url, session)
        if not is_private(client.meta.endpoint_url):
            # It may come from the AWS settings; values would cross the network in the clear.
            message = (
                f"the endpoint that the AWS settings name for {self._title} is neither `https://` nor this machine"
            )
            variable = f"AWS_ENDPOINT_URL_{client.meta.service_model.service_id.replace(' ', '_').upper()}"
            raise BackendRefused(message, hint=f"look at `{variable}` and `endpoint_url`")
        return client

    def error_of(self, failure: Failure, operation: str) -> SecurecfgError:
        """Return the error for a request that failed."""
        where, code = self.where, failure.shown_code
        error: SecurecfgError
        match failure.outcome:
            case Outcome.NO_REGION:
                message = f"the AWS region of `{self._scheme}:` is not known"
                error = SettingMissing(message, hint="add `?region=REGION`, or set AWS_DEFAULT_REGION")
            case Outcome.NO_CREDENTIALS:
                hint = (
                    "log in with `aws sso login` or `aws configure`, set AWS_PROFILE, or add `?metadata=yes` where the "
                )
                hint += "role of this machine or container is meant"
                error = BackendLoginRefused(f"there are no usable AWS credentials for {where}", hint=hint)
            case Outcome.LOGIN_REFUSED:
                hint = "log in again; `aws sts get-caller-identity` says whose they are"
                error = BackendLoginRefused(f"{where} does not take the credentials{code}", hint=hint)
            case Outcome.DENIED:
                action = "".join(word.capitalize() for word in operation.split("_"))
                hint = f"they need `{self._name}:{action}`; `aws sts get-caller-identity` says whose they are"
                error = BackendDenied(f"{where} does not let these credentials do this{code}", hint=hint)
            case Outcome.REFUSED:
                error = Refusal(f"{where} refuses what was asked{code}", hint="CloudTrail may say more")
                error.reason = failure.code
            case Outcome.NOT_REACHED:
                error = BackendNotReached(f"{where} cannot be reached", hint="try again later")
            case Outcome.THROTTLED:
                error = BackendNotReached(f"{where} has been asked too often{code}", hint="try again later")
            case Outcome.DISTURBED:
                error = self._disturbed(f"is disturbed{code}" if failure.is_answer else "gave no answer")
        if isinstance(error, BackendUnavailable):
            error.retry_after_s = failure.retry_after_s
        return error

    def _disturbed(self, what: str) -> BackendUnavailable:
        return BackendUnavailable(f"{self.where} {what}", hint="try again later")


class Folder(NamedTuple):
    """A folder of names in a service, and what may be in it.

    Attributes:
        title: What the service is called.
        prefix: What stands in front of all names: empty, or with `/` at its end.
        allowed: What a path has to be.
        shown: The same in words.
    """

    title: str
    prefix: str
    allowed: re.Pattern[str]
    shown: str

    def name(self, path: str) -> str:
        """Return the name under which a path is held.

        Raises:
            InvalidPath: The service takes no such name.
        """
        if not self.allowed.fullmatch(path):
            message = f"`{path}` can be no name in {self.title}"
            raise InvalidPath(message, hint=f"it takes {self.shown}")
        return self.prefix + path

    def path(self, name: str) -> str:
        """Return the path that a name stands for, an empty text where it stands for none."""
        path = name.removeprefix(self.prefix)
        return path if self.prefix + path == name and self.allowed.fullmatch(path) else ""

    def not_found(self, path: str) -> SecretNotFound:
        """Return the error for a path where there is nothing."""
        return SecretNotFound(f"there is no secret `{path}` in {self.title}")

    def no_version(self, path: str) -> VersionNotFound:
        """Return the error for a secret that is there, without the version that is meant."""
        return VersionNotFound(f"`{path}` has no such version or label in {self.title}")


def parse_prefix(uri: BackendUri) -> str:
    """Return what stands in front of all names, empty or with `/` at its end.

    Raises:
        InvalidBackendUri: It is no folder.
    """
    prefix = uri.rest if not uri.rest or uri.rest.endswith("/") else f"{uri.rest}/"
    segments = prefix.split("/")
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _PREFIX_LENGTH_MAX or "." in segments or ".." in segments:
        message = f"the folder of a `{uri.scheme}:` URI is letters, digits and _ + = . - between single `/`"
        raise InvalidBackendUri(message, hint=f"for instance `{uri.scheme}:prod/shop`")
    return prefix


def parse_place(uri: BackendUri, options: Mapping[str, str]) -> Place:
    """Return where the options of a URI say that a service is.

    Raises:
        InvalidBackendUri: They say something else, or half of an access key is given.
    """
    scheme = uri.scheme
    if uri.credentials and not uri.credentials.keys() >= set(CREDENTIALS[:2]):
        message = f"of the credentials of `{scheme}:` there are `{CREDENTIALS[0]}` and `{CREDENTIALS[1]}`, or none"
        raise InvalidBackendUri(message, hint=f"`{CREDENTIALS[2]}` belongs to those of a session")
    region, endpoint = options.get("region"), options.get("endpoint")
    if region is not None and not REGION.fullmatch(region):
        message = f"the region of a `{scheme}:` URI is not one"
        raise InvalidBackendUri(message, hint="for instance `eu-west-1`")
    if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
        message = f"the endpoint of a `{scheme}:` URI begins with `https://`, or is on this machine"
        raise InvalidBackendUri(message, hint="it is a host, with a port where needed, and no path")
    return Place(region, endpoint, is_wanted(scheme, options, "metadata"), uri.credentials)


def to_utc(when: datetime) -> datetime:
    """Return a time, which botocore gives in the zone of this machine, in UTC."""
    from datetime import UTC

    return when.astimezone(UTC)
