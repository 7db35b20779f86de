"""`awsssm:[FOLDER]` - the Parameter Store of AWS Systems Manager, as `SecureString` parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from securecfg.backends.aws import (
    CREDENTIALS,
    PLACE_OPTIONS,
    Answer,
    AwsApi,
    Folder,
    parse_place,
    parse_prefix,
    to_utc,
)
from securecfg.backends.doubt import looking_first
from securecfg.backends.interface import Capabilities, Deletion, Found, Kind, StoredVersion
from securecfg.backends.json_fields import held_of, to_value
from securecfg.backends.refusal import Refusal
from securecfg.backends.uri import take_options
from securecfg.errors import AlreadyExists, InvalidBackendUri, InvalidMetadata, InvalidPath, SecurecfgError, Unsupported
from securecfg.keys.aws import ALIAS_OR_ID, ARN_OF_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from securecfg.backends.aws import Place
    from securecfg.backends.interface import BackendUri, Content, Writing

T = TypeVar("T")

TITLE = "the AWS Parameter Store"
TIERS: Final = {"standard": "Standard", "advanced": "Advanced", "intelligent": "Intelligent-Tiering"}
VALUE_BYTES_MAX: Final = {"standard": 4_096, "advanced": 8_192, "intelligent": 8_192}
NAME_LENGTH_MAX = 947
"""AWS takes 1,011 characters with what stands before the name in its ARN, which has up to 64."""
DEPTH_MAX = 15
BATCH_MAX = 10
LIST_PAGE = 10
HISTORY_PAGE = 50

_RESERVED = re.compile(r"/(?:aws|ssm)", re.ASCII | re.IGNORECASE)
_SEGMENT = r"[A-Za-z0-9_.-]+"
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_LABEL = re.compile(r"(?!(?:[Aa][Ww][Ss]|[Ss][Ss][Mm]))[A-Za-z_.-][A-Za-z0-9_.-]{0,99}", re.ASCII)
_NESTED = re.compile(r"\{\{.*\}\}", re.DOTALL)
_NOT_THERE = "ParameterNotFound"
_NO_VERSION = "ParameterVersionNotFound"
_EXISTS = "ParameterAlreadyExists"


class AwsParameters:
    """Speaks to the Parameter Store. Credentials are found as the AWS command line finds them.

    Args:
        prefix: What stands in front of all names; begins and ends with `/`.
        place: Where it is.
        tier: Of what is written, `standard`, `advanced` or `intelligent`; None for what AWS's settings say.
        key_id: The KMS key that encrypts what is written; None for AWS's own.
    """

    scheme: Final = "awsssm"

    def __init__(self, prefix: str, place: Place, tier: str | None, key_id: str | None) -> None:
        """Call nothing yet."""
        self._api = AwsApi(self.scheme, "ssm", TITLE, place)
        below = DEPTH_MAX - prefix.count("/")
        allowed = re.compile(f"(?:{_SEGMENT}/){{0,{below}}}{_SEGMENT}", re.ASCII)
        shown = f"ASCII letters, digits and _ . - in at most {DEPTH_MAX} levels, none that begins with aws or ssm"
        self._folder = Folder(TITLE, prefix, allowed, shown)
        self._tier, self._key_id = tier, key_id
        self.name = self._api.where + (f", folder `{prefix}`" if prefix != "/" else "")
        self.capabilities = Capabilities(
            kinds=frozenset({Kind.TEXT, Kind.FIELDS}),
            value_bytes_max=VALUE_BYTES_MAX[tier or "standard"],
            path_bytes_max=NAME_LENGTH_MAX - len(prefix),
            writes=True,
            creates=True,
            keeps_versions=True,
            labels=True,
            deletes=Deletion.FINAL,
            reads_at_once=BATCH_MAX,
        )

    def __repr__(self) -> str:
        """Show which store."""
        return f"AwsParameters({self.name!r})"

    def read(self, path: str, version: str | None) -> Found:
        """Return a parameter: its newest version, or the one with this number or label."""
        name = self._name(path)
        if version is not None and not _NUMBER.fullmatch(version) and not _LABEL.fullmatch(version):
            raise self._no_version(path)
        selected = name if version is None else f"{name}:{version}"
        try:
            return self._get(selected, lambda parameter: _found(parameter, path), WithDecryption=True)
        except Refusal as refusal:
            failure = self._refused(path, refusal, has_selector=version is not None)
        raise failure

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return the newest versions of at most 10 parameters."""

        def understand(answer: Answer) -> dict[str, Found]:
            values = {self._folder.path(value["Name"]): value for value in answer["Parameters"]}
            return {path: _found(value, path) for path, value in values.items()}

        names = [self._name(path) for path in paths]
        return self._api.ask("get_parameters", understand, Names=names, WithDecryption=True)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all parameters, without having their values decrypted."""
        begins = self._folder.prefix + prefix
        names = self._api.pages(
            "get_parameters_by_path",
            lambda answer: [parameter["Name"] for parameter in answer["Parameters"]],
            Path=begins.rstrip("/") or "/",
            Recursive=True,
            WithDecryption=False,
            MaxResults=LIST_PAGE,
        )
        for name in names:
            yield self._path(name)

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield the versions, newest first."""
        pages = self._api.pages(
            "get_parameter_history",
            lambda answer: [(parameter["Version"], _version(parameter)) for parameter in answer["Parameters"]],
            Name=self._name(path),
            WithDecryption=False,
            MaxResults=HISTORY_PAGE,
        )
        try:
            numbered = dict(pages)
        except Refusal as refusal:
            raise self._refused(path, refusal) from None
        for number in sorted(numbered, reverse=True):
            yield numbered[number]

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version and return its number."""
        name = self._name(path)
        held = held_of(content, self.capabilities.value_bytes_max, TITLE)
        if isinstance(held, bytes) or _NESTED.search(held):
            message = f"{TITLE} holds no value with double braces around something"
            raise Unsupported(message, hint="it takes them for references to other parameters")
        options: dict[str, object] = {}
        if self._tier is not None:
            options["Tier"] = TIERS[self._tier]
        if self._key_id is not None:
            options["KeyId"] = self._key_id
        try:
            return self._api.ask(
                "put_parameter",
                lambda answer: _id(answer["Version"]),
                Name=name,
                Value=held,
                Type="SecureString",
                Overwrite=writing.expect != "",
                **options,
            )
        except Refusal as refusal:
            failure = self._refused(path, refusal)
        raise failure

    def label(self, path: str, label: str, version: str | None) -> None:
        """Move a label, or take it away."""
        name = self._name(path)
        if not _LABEL.fullmatch(label):
            message = "a label is a letter or one of _ . -, then these and digits, 100 at most"
            raise InvalidMetadata(message, hint="none begins with `aws` or `ssm`")
        try:
            if version is None:
                with looking_first():
                    number = self._get(f"{name}:{label}", lambda parameter: parameter["Version"], WithDecryption=False)
                self._api.ask("unlabel_parameter_version", _done, Name=name, ParameterVersion=number, Labels=[label])
            elif _NUMBER.fullmatch(version):
                self._api.ask(
                    "label_parameter_version", _labelled, Name=name, ParameterVersion=int(version), Labels=[label]
                )
            else:
                raise self._no_version(path)
        except Refusal as refusal:
            failure = self._refused(path, refusal, has_selector=version is None)
        else:
            return
        raise failure

    def delete(self, path: str) -> None:
        """Delete a parameter with all its versions, for good."""
        try:
            self._api.ask("delete_parameter", _done, Name=self._name(path))
        except Refusal as refusal:
            failure = self._refused(path, refusal)
        else:
            return
        raise failure

    def _get(self, selected: str, understand: Callable[[Answer], T], **options: object) -> T:
        return self._api.ask("get_parameter", lambda answer: understand(answer["Parameter"]), Name=selected, **options)

    def _name(self, path: str) -> str:
        name = self._folder.name(path)
        if _RESERVED.match(name):
            message = f"`{path}` can be no name in {TITLE}"
            raise InvalidPath(message, hint="AWS keeps what begins with aws or ssm for itself")
        return name

    def _path(self, name: str) -> str:
        return "" if _RESERVED.match(name) else self._folder.path(name)

    def _no_version(self, path: str) -> SecurecfgError:
        """Return the error for a version that cannot be: which of the two depends on whether the parameter is there."""
        try:
            self._get(self._name(path), _done, WithDecryption=False)
        except Refusal as refusal:
            return self._refused(path, refusal)
        return self._folder.no_version(path)

    def _refused(self, path: str, refusal: Refusal, *, has_selector: bool = False) -> SecurecfgError:
        """Return the error for a refusal. What names a version too may be refused as if nothing were there."""
        if refusal.reason == _NOT_THERE:
            return self._no_version(path) if has_selector else self._folder.not_found(path)
        if refusal.reason == _NO_VERSION:
            return self._folder.no_version(path)
        if refusal.reason == _EXISTS:
            return AlreadyExists(f"there is a parameter `{path}` in {TITLE} already")
        return refusal


def from_uri(uri: BackendUri) -> AwsParameters:
    """Return the backend for `awsssm:[FOLDER]`, with the options `region`, `endpoint`, `metadata`, `tier` and `key`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, (*PLACE_OPTIONS, "tier", "key"), CREDENTIALS)
    prefix = "/" + parse_prefix(uri).removeprefix("/")
    if "+" in prefix or "=" in prefix or prefix.count("/") > DEPTH_MAX or _RESERVED.match(prefix):
        message = "the folder of an `awsssm:` URI is letters, digits and _ . - in at most 14 levels"
        raise InvalidBackendUri(message, hint="none begins with `aws` or `ssm`")
    tier, key_id = options.get("tier"), options.get("key")
    if tier is not None and tier not in TIERS:
        message = "the tier of an `awsssm:` URI is `standard`, `advanced` or `intelligent`"
        raise InvalidBackendUri(message)
    if key_id is not None and not ARN_OF_KEY.fullmatch(key_id) and not ALIAS_OR_ID.fullmatch(key_id):
        message = "the key of an `awsssm:` URI is the ARN, an alias or the id of a KMS key"
        raise InvalidBackendUri(message, hint="for instance `alias/shop`")
    return AwsParameters(prefix, parse_place(uri, options), tier, key_id)


def _done(_answer: Answer) -> None:
    """Understand an answer that says no more than that it was done."""


def _labelled(answer: Answer) -> None:
    """Understand an answer that says which labels it did not take.

    Raises:
        ValueError: There is one, although it keeps the rules.
    """
    if answer.get("InvalidLabels"):
        raise ValueError


def _id(number: int) -> str:
    return f"{number:d}"


def _version(parameter: Answer) -> StoredVersion:
    labels = tuple(sorted(parameter.get("Labels") or ()))
    return StoredVersion(_id(parameter["Version"]), created=to_utc(parameter["LastModifiedDate"]), labels=labels)


def _found(parameter: Answer, path: str) -> Found:
    return Found(to_value(parameter["Value"], path), _version(parameter), {})
