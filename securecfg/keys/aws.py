"""What is the same for every service of AWS: where it is, who asks, and what became of a request that failed."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_S = 3.0
READ_S = 10.0

ARN_OF_KEY = re.compile(
    r"arn:aws[a-z-]{0,20}:kms:(?P<region>[a-z0-9-]{1,40}):[0-9]{12}:(?:key/[A-Za-z0-9-]{1,64}|alias/[\w/-]{1,250})",
    re.ASCII,
)
ALIAS_OR_ID = re.compile(r"alias/[\w/-]{1,250}|[A-Za-z0-9-]{1,64}", re.ASCII)
REGION = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
ENDPOINT = re.compile(
    r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?/?|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?/?",
    re.ASCII,
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)

_LOGIN_REFUSED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IDPRejectedClaim",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired"})
_THROTTLED = frozenset(
    {
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
        "TooManyUpdates",
    }
)
_DISTURBED = frozenset({"InternalFailure", "InternalServerError", "InternalServiceError"})
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE = 401, 403, 429, 503
_REFUSALS = range(400, 500)


class Outcome(Enum):
    """What became of a request that failed.

    Attributes:
        NO_REGION: Nobody says where to ask.
        NO_CREDENTIALS: There are none, or none that can be used.
        LOGIN_REFUSED: They are wrong or expired.
        DENIED: They may not do this.
        NOT_REACHED: No connection was made.
        THROTTLED: The service refused before it took the request.
        DISTURBED: It may or may not have done what it was asked.
        REFUSED: It refuses for another reason.
    """

    NO_REGION = auto()
    NO_CREDENTIALS = auto()
    LOGIN_REFUSED = auto()
    DENIED = auto()
    NOT_REACHED = auto()
    THROTTLED = auto()
    DISTURBED = auto()
    REFUSED = auto()


class Failure(NamedTuple):
    """A request that failed, without a word of the service or its client that may quote something.

    Attributes:
        outcome: What became of it.
        code: The service's name for the reason, or an empty text; only letters, digits and dots.
        retry_after_s: When to come back, 0 where nobody says.
        is_answer: Whether the service said so, rather than its client.
    """

    outcome: Outcome
    code: str = ""
    retry_after_s: float = 0.0
    is_answer: bool = False

    @property
    def shown_code(self) -> str:
        """The code as it stands at the end of a message."""
        return f" (`{self.code}`)" if self.code else ""


def is_private(endpoint_url: str) -> bool:
    """Return whether nobody on the network sees what an endpoint is sent: by TLS, or because it is this machine."""
    endpoint = urlsplit(endpoint_url)
    return endpoint.scheme == "https" or (endpoint.scheme == "http" and endpoint.hostname in _LOOPBACK)


def open_client(
    service: str,
    region: str | None,
    endpoint_url: str | None,
    session: Any = None,  # noqa: ANN401 - botocore publishes no types
    answer_s: float = READ_S,
) -> Any:  # noqa: ANN401 - made at run time from AWS's description of the service
    """Return a client that asks once.

    The endpoint may come from the AWS settings; whether it is private is for the caller to check.

    Args:
        service: As botocore calls it.
        region: Where; None for what the AWS settings say.
        endpoint_url: Where to ask instead of the region's public endpoint.
        session: Who knows the credentials; by default the platform's own chain.
        answer_s: How long the service may take to answer.

    Raises:
        BotoCoreError: Settings are missing or wrong; see `failure_of`.
    """
    from botocore.config import Config
    from botocore.session import get_session

    config = Config(
        connect_timeout=min(CONNECT_S, answer_s),
        read_timeout=answer_s,
        retries={"total_max_attempts": 1, "mode": "standard"},  # asking again is the caller's business
        defaults_mode="legacy",  # `auto` asks the metadata service of the machine for its region
    )
    session = session or get_session()
    return session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=config)


def session_without_metadata() -> Any:  # noqa: ANN401 - botocore publishes no types
    """Return a session that asks no metadata service, neither of a machine nor of a container, for credentials."""
    from botocore.credentials import CanonicalNameCredentialSourcer, EnvProvider
    from botocore.session import get_session

    session = get_session()
    resolver = session.get_component("credential_provider")
    resolver.remove("iam-role")
    resolver.remove("container-role")
    # A profile with `credential_source` would ask them too, for the credentials of whoever assumes its role.
    resolver.get_provider("assume-role")._credential_sourcer = CanonicalNameCredentialSourcer([EnvProvider()])  # noqa: SLF001 - there is no other way in
    return session


def session_of(credentials: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """Return a session that has these credentials, by the names of AWS's variables, and asks nobody for others."""
    from botocore.session import get_session

    session = get_session()
    session.set_credentials(
        credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"], credentials.get("AWS_SESSION_TOKEN")
    )
    return session


def failure_of(error: Exception) -> Failure:
    """Return what became of a request whose client raised a `ClientError` or a `BotoCoreError`."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _answered(error.response)
    if isinstance(error, exceptions.NoRegionError):
        return Failure(Outcome.NO_REGION)
    if isinstance(
        error,
        exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.CredentialRetrievalError
        | exceptions.UnknownCredentialError
        | exceptions.InvalidConfigError
        | exceptions.ProfileNotFound
        | exceptions.ConfigParseError
        | exceptions.TokenRetrievalError
        | exceptions.SSOError,
    ):
        return Failure(Outcome.NO_CREDENTIALS)
    if isinstance(
        error,
        exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError | exceptions.ProxyConnectionError,
    ):
        return Failure(Outcome.NOT_REACHED)
    return Failure(Outcome.DISTURBED)


def failure_of_code(code: str, status: int = _REFUSALS.start) -> Failure:
    """Return what became of a request that the service answers with a code, alone or with a status of HTTP."""
    shown = code if _CODE.fullmatch(code) else ""
    if code in _LOGIN_REFUSED or status == _UNAUTHORIZED:
        outcome = Outcome.LOGIN_REFUSED
    elif code in _DENIED or status == _FORBIDDEN:
        outcome = Outcome.DENIED
    elif code in _THROTTLED or status in {_TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE}:
        outcome = Outcome.THROTTLED
    elif code in _DISTURBED or status not in _REFUSALS:
        outcome = Outcome.DISTURBED
    else:
        outcome = Outcome.REFUSED
    return Failure(outcome, shown, is_answer=True)


def _answered(response: Mapping[str, Any]) -> Failure:
    about = response.get("ResponseMetadata", {})
    failure = failure_of_code(str(response.get("Error", {}).get("Code", "")), about.get("HTTPStatusCode", 0))
    seconds = str(about.get("HTTPHeaders", {}).get("retry-after", ""))
    return failure._replace(retry_after_s=float(seconds)) if _SECONDS.fullmatch(seconds) else failure
