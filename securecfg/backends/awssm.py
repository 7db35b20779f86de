"""`awssm:[FOLDER]` - AWS Secrets Manager.

A write that expects a version takes two steps, because AWS compares where it moves a staging label, and only there:

1. look            whether the version is current; whether this write has been made already, where it is sent again
2. put             the value as a version that nobody reads, under a label of our own
3. move AWSCURRENT from the version that was seen to the new one; AWS refuses where it is elsewhere by now

A process that dies after 2 leaves a version that nobody reads. Its label goes to the next version that is put so,
and AWS deletes versions without labels by itself.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

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
from securecfg.backends.uri import is_wanted, take_options
from securecfg.errors import (
    AlreadyExists,
    BackendDenied,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    CommitUnknown,
    InvalidBackendUri,
    InvalidMetadata,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
)
from securecfg.keys.aws import failure_of_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from securecfg.backends.aws import Place
    from securecfg.backends.interface import BackendUri, Content, Writing
    from securecfg.vault.values import Value

TITLE = "AWS Secrets Manager"
CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
PENDING = "securecfg-pending"
"""The staging label of ours for a version that nobody reads yet; there is at most one in each secret."""
TAG_PREFIX = "securecfg:"
"""What the keys of tags begin with that are metadata. All others belong to whoever made them, and may grant rights."""

NAME_LENGTH_MAX = 512
VALUE_BYTES_MAX = 65_536
BATCH_MAX = 20
TAGS_MAX = 50
TAG_KEY_LENGTH_MAX, TAG_VALUE_LENGTH_MAX = 127, 255
LABEL_LENGTH_MAX = 256
PAGE = 100

_ALLOWED = re.compile(r"[A-Za-z0-9/_+=.-]+", re.ASCII)
_VERSION_LENGTHS = range(32, 65)
_TAG = re.compile(r"[\w +=.:/@-]*")
_NOT_THERE = "ResourceNotFoundException"
_EXISTS = "ResourceExistsException"
_NOT_IN_THIS_STATE = "InvalidRequestException"
_INVALID = "InvalidParameterException"
_FAILED = "Failed"
_REGION = re.compile(r"(?:[a-z]+-)+[0-9]+", re.ASCII)
_REGION_LENGTH_MAX = 128


class _Description(NamedTuple):
    """What AWS tells of a secret besides its value.

    Attributes:
        stages: The labels of each version.
        tags: All of them.
        replicas: The regions to which it is replicated, or should be.
        primary: The region from which it is replicated; empty where it is no replica.
    """

    stages: Mapping[str, frozenset[str]]
    tags: Mapping[str, str]
    replicas: tuple[str, ...]
    primary: str

    def version_with(self, label: str) -> str | None:
        return next((version for version, labels in self.stages.items() if label in labels), None)


class _Secrets:
    """What both backends do alike.

    Args:
        prefix: What stands in front of all names.
        place: Where it is.
        replicas: The other regions that AWS replicates to what is made here.
    """

    scheme: Final = "awssm"

    def __init__(self, prefix: str, place: Place, replicas: tuple[str, ...] = ()) -> None:
        """Call nothing yet."""
        self._replicas = replicas
        self._api = AwsApi(self.scheme, "secretsmanager", TITLE, place)
        self._folder = Folder(TITLE, prefix, _ALLOWED, "ASCII letters, digits and / _ + = . -")
        self.name = self._api.where + (f", folder `{prefix}`" if prefix else "")
        self.capabilities = Capabilities(
            kinds=frozenset(Kind),
            value_bytes_max=VALUE_BYTES_MAX,
            path_bytes_max=NAME_LENGTH_MAX - len(prefix),
            writes=True,
            creates=True,
            compares=True,
            keeps_versions=True,
            labels=True,
            deletes=Deletion.SOFT,
            is_write_repeatable=True,
        )

    def __repr__(self) -> str:
        """Show which store."""
        return f"{type(self).__name__}({self.name!r})"

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret: its current version, or the one with this id or staging label."""
        name = self._folder.name(path)
        selectors: list[dict[str, str]] = [{}]
        if version is not None:
            by_id = [{"VersionId": version}] if len(version) in _VERSION_LENGTHS else []
            by_label = [{"VersionStage": version}] if _is_label(version) else []
            selectors = [*by_id, *by_label]
        for selector in selectors:
            try:
                return self._api.ask("get_secret_value", lambda answer: _found(answer, path), SecretId=name, **selector)
            except Refusal as refusal:
                if refusal.reason == _NOT_IN_THIS_STATE:  # it waits for its deletion
                    raise self._folder.not_found(path) from None
                if refusal.reason != _NOT_THERE:
                    raise
        if version is None:
            raise self._folder.not_found(path)
        self._describe(path)
        raise self._folder.no_version(path)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of the secrets that do not wait for their deletion."""
        begins = self._folder.prefix + prefix
        filters = [{"Key": "name", "Values": [begins]}] if begins else []
        names = self._api.pages(
            "list_secrets",
            lambda answer: [entry["Name"] for entry in answer["SecretList"]],
            Filters=filters,
            MaxResults=PAGE,
        )
        for name in names:
            if name.startswith(begins):
                yield self._folder.path(name)

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield the versions that hold a value, newest first."""
        name = self._folder.name(path)
        self._describe(path)  # the list of versions does not say whether the secret waits for its deletion
        try:
            found = list(
                self._api.pages(
                    "list_secret_version_ids",
                    lambda answer: [_version(entry) for entry in answer["Versions"]],
                    SecretId=name,
                    IncludeDeprecated=True,
                    MaxResults=PAGE,
                )
            )
        except Refusal as refusal:
            raise self._refused(path, refusal) from None
        yield from newest_first(found)

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version and return its id, which is the token."""
        name = self._folder.name(path)
        held = held_of(content, VALUE_BYTES_MAX, TITLE)
        new = {
            "SecretBinary" if isinstance(held, bytes) else "SecretString": held,
            "ClientRequestToken": writing.token,
        }
        try:
            if writing.expect == "":
                self._create(name, new, writing)
            elif writing.expect is None:
                self._put(name, new, writing)
            else:
                self._replace(path, name, new, writing)
        except Refusal as refusal:
            try:
                failure = self._refused(path, refusal)
            except SecretNotFound:
                message = f"{TITLE} keeps the name of `{path}`, which is deleted"
                failure = BackendRefused(message, hint="bring it back, or wait until AWS has deleted it for good")
            raise failure from None
        return writing.token

    def label(self, path: str, label: str, version: str | None) -> None:
        """Move a staging label, or take it away."""
        name = self._folder.name(path)
        if not _is_label(label) or label.startswith("AWS"):
            message = "a label is 1 to 256 characters, and none that begins with `AWS`"
            raise InvalidMetadata(message, hint=f"`{CURRENT}` and its like, and `{PENDING}`, move by themselves")
        with looking_first():
            at = self._describe(path).version_with(label)
        if at is None and version is None:
            raise self._folder.no_version(path)
        if at == version:
            return
        if version is not None and len(version) not in _VERSION_LENGTHS:
            raise self._folder.no_version(path)
        moves = {"RemoveFromVersionId": at, "MoveToVersionId": version}
        try:
            self._move(name, label, {key: value for key, value in moves.items() if value is not None})
        except Refusal as refusal:
            if version is not None and all(each.id != version for each in self.versions(path)):
                raise self._folder.no_version(path) from None
            raise self._refused(path, refusal) from None

    def delete(self, path: str) -> None:
        """Let a secret be deleted in 30 days. Its replicas are left alone: they would be gone at once, and for good."""
        try:
            self._api.ask("delete_secret", _done, SecretId=self._folder.name(path))
        except Refusal as refusal:
            if refusal.reason == _INVALID:
                raise self._replicated(path, refusal, replicas="deletes no secret that is") from None
            raise self._refused(path, refusal) from None

    def recover(self, path: str) -> None:
        """Let a secret not be deleted."""
        try:
            self._api.ask("restore_secret", _done, SecretId=self._folder.name(path))
        except Refusal as refusal:
            if refusal.reason == _NOT_THERE:
                raise self._folder.not_found(path) from None
            self._describe(path)  # nothing happens to one that is there

    # --- writing ------------------------------------------------------------------------------------------------------

    def _create(self, name: str, new: Mapping[str, object], writing: Writing) -> None:
        tags = _tags(writing.metadata or {})
        if not self._replicas:
            self._api.ask("create_secret", _done, Name=name, Tags=tags, **new)
            return
        # What has the name already in another region stays as it is: AWS overwrites it only where that is asked for.
        regions = [{"Region": region} for region in self._replicas]
        try:
            statuses = self._api.ask("create_secret", _statuses, Name=name, Tags=tags, AddReplicaRegions=regions, **new)
        except BackendDenied as denied:
            hint = "they need `secretsmanager:CreateSecret`, and `secretsmanager:ReplicateSecretToRegions`"
            raise BackendDenied(denied.message, hint=hint) from None
        except Refusal as refusal:
            if refusal.reason == _INVALID:
                refusal.hint = "is `replicate` in the URI of regions that there are, and not of that of the secret?"
            raise
        failed = [region for region in self._replicas if statuses.get(region) == _FAILED]
        if failed:
            message = f"`{name}` is written, and AWS could not replicate it to {_listed(failed)}"
            hint = "a secret that has its name there is in the way; `aws secretsmanager describe-secret` says more"
            raise CommitUnknown(message, hint=hint)

    def _put(self, name: str, new: Mapping[str, object], writing: Writing) -> None:
        """Write whatever there is. Each request is made once where it is sent again, and AWSCURRENT stays then."""
        for _ in range(2):
            try:
                self._api.ask("put_secret_value", _done, SecretId=name, **new)
            except Refusal as refusal:
                if refusal.reason != _NOT_THERE:
                    raise
            else:
                return
            try:
                self._create(name, new, writing)
            except Refusal as refusal:
                if refusal.reason != _EXISTS:
                    raise
            else:
                return
        message = f"somebody else makes and deletes `{name}` at the same time"
        raise BackendNotReached(message, hint="try again later")

    def _replace(self, path: str, name: str, new: Mapping[str, object], writing: Writing) -> None:
        """Write on the version that was seen; the numbers are those of the module."""
        token, expect = writing.token, writing.expect
        # 1
        with looking_first():
            seen = self._describe(path)
        if seen.stages.get(token, frozenset()) & {CURRENT, PREVIOUS}:
            return
        if seen.version_with(CURRENT) != expect:
            raise _stale(path)
        # 2
        self._api.ask("put_secret_value", _done, SecretId=name, VersionStages=[PENDING], **new)
        # 3
        try:
            self._move(name, CURRENT, {"RemoveFromVersionId": expect, "MoveToVersionId": token})
        except Refusal:
            if self._describe(path).version_with(CURRENT) != expect:
                raise _stale(path) from None
            raise

    def _move(self, name: str, label: str, moves: Mapping[str, str | None]) -> None:
        self._api.ask("update_secret_version_stage", _done, SecretId=name, VersionStage=label, **moves)

    def _describe(self, path: str) -> _Description:
        """Return what AWS tells of a secret.

        Raises:
            SecretNotFound: There is none, or it waits for its deletion.
        """
        try:
            described, is_deleted = self._api.ask("describe_secret", _described, SecretId=self._folder.name(path))
        except Refusal as refusal:
            if refusal.reason != _NOT_THERE:
                raise
            is_deleted = True
        if is_deleted:
            raise self._folder.not_found(path)
        return described

    def _refused(self, path: str, refusal: Refusal) -> SecurecfgError:
        """Return the error for a refusal of a change."""
        if refusal.reason == _EXISTS:
            return AlreadyExists(f"there is a secret `{path}` in {TITLE} already")
        if refusal.reason == _NOT_THERE:
            return self._folder.not_found(path)
        if refusal.reason == _NOT_IN_THIS_STATE:
            self._describe(path)  # it may wait for its deletion
        if refusal.reason == _INVALID:
            return self._replicated(path, refusal)
        return refusal

    def _replicated(self, path: str, refusal: Refusal, *, replicas: str = "") -> SecurecfgError:
        """Return the error for a change that AWS takes for invalid: a secret may be a replica.

        Args:
            path: Which.
            refusal: What it is where nothing else is seen.
            replicas: What AWS does not do, in words, where the secret has some; empty where it does.
        """
        try:
            described = self._describe(path)
        except SecurecfgError:
            return refusal  # who changes a secret need not have the right to look at it
        if described.primary:
            message = f"`{path}` is a replica, and AWS changes it where it comes from only, in `{described.primary}`"
            return BackendRefused(message, hint=f"`region={described.primary}` in the URI")
        if described.replicas and replicas:
            message = f"`{path}` is replicated to {_listed(described.replicas)}, and AWS {replicas}"
            hint = "`aws secretsmanager remove-regions-from-replication` deletes the replicas, at once and for good"
            return BackendRefused(message, hint=hint)
        return refusal


class AwsSecrets(_Secrets):
    """Speaks to AWS Secrets Manager. Credentials are found as the AWS command line finds them.

    Args:
        prefix: What stands in front of all names.
        place: Where it is.
        replicas: The other regions that AWS replicates to what is made here.
    """

    def __init__(self, prefix: str, place: Place, replicas: tuple[str, ...] = ()) -> None:
        """Call nothing yet."""
        super().__init__(prefix, place, replicas)
        self.capabilities = self.capabilities._replace(reads_at_once=BATCH_MAX)

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return the current versions of at most 20 secrets."""
        names = [self._folder.name(path) for path in paths]

        def understand(answer: Answer) -> tuple[set[str], dict[str, Found]]:
            codes = {error["ErrorCode"] for error in answer.get("Errors") or ()}
            values = {self._folder.path(value["Name"]): value for value in answer["SecretValues"]}
            return codes, {path: _found(value, path) for path, value in values.items()}

        codes, found = self._api.ask("batch_get_secret_value", understand, SecretIdList=names)
        for code in codes - {_NOT_THERE, _NOT_IN_THIS_STATE}:
            raise self._api.error_of(failure_of_code(code), "get_secret_value")
        return found


class AwsSecretsWithTags(_Secrets):
    """The same with metadata, which are tags whose keys begin with `securecfg:`. Each read takes a second call.

    Args:
        prefix: What stands in front of all names.
        place: Where it is.
        replicas: The other regions that AWS replicates to what is made here.
    """

    def __init__(self, prefix: str, place: Place, replicas: tuple[str, ...] = ()) -> None:
        """Call nothing yet."""
        super().__init__(prefix, place, replicas)
        self.capabilities = self.capabilities._replace(metadata=True)

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret with its metadata."""
        found = super().read(path, version)
        return found._replace(metadata=_metadata(self._describe(path).tags))

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version and then its metadata; both together where the secret is new."""
        if writing.metadata is None or writing.expect == "":
            return super().write(path, content, writing)
        tags = _tags(writing.metadata)
        tagged: Mapping[str, str] = {}
        with looking_first(), suppress(SecretNotFound):
            tagged = self._describe(path).tags
        _check_number({**tagged, **{tag["Key"]: tag["Value"] for tag in tags}})
        version = super().write(path, content, writing)
        wanted = {tag["Key"] for tag in tags}
        self._tag(path, tags, [key for key in tagged if key.startswith(TAG_PREFIX) and key not in wanted])
        return version

    def _tag(self, path: str, tags: Sequence[Mapping[str, str]], leaving: Sequence[str]) -> None:
        """Change the metadata of a secret whose value is written already: what fails here leaves it half done."""
        name = self._folder.name(path)
        message = f"the value of `{path}` is written, and its metadata may or may not be"
        try:
            if tags:
                self._api.ask("tag_resource", _done, SecretId=name, Tags=tags)
            if leaving:
                self._api.ask("untag_resource", _done, SecretId=name, TagKeys=leaving)
        except BackendUnavailable as error:
            failure: SecurecfgError = BackendUnavailable(error.message, hint=error.hint)  # though nothing was reached
        except SecurecfgError as error:
            failure = CommitUnknown(f"{message}: {error.message}", hint=error.hint)
        else:
            return
        raise failure


def from_uri(uri: BackendUri) -> AwsSecrets | AwsSecretsWithTags:
    """Return the backend for `awssm:[FOLDER]`.

    The options are `region`, `endpoint`, `metadata`, `tags` and `replicate`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, (*PLACE_OPTIONS, "tags", "replicate"), CREDENTIALS)
    has_tags = is_wanted(uri.scheme, options, "tags")
    kind = AwsSecretsWithTags if has_tags else AwsSecrets
    return kind(parse_prefix(uri), parse_place(uri, options), _parse_replicas(options))


def _parse_replicas(options: Mapping[str, str]) -> tuple[str, ...]:
    if "replicate" not in options:
        return ()
    regions = options["replicate"].split(",")
    are_regions = all(_REGION.fullmatch(region) and len(region) <= _REGION_LENGTH_MAX for region in regions)
    if not are_regions or len({*regions, options.get("region")}) <= len(regions):
        message = "`replicate` of an `awssm:` URI is regions, other than its own, each once, with commas between them"
        raise InvalidBackendUri(message, hint="for instance `replicate=eu-west-1,us-east-2`")
    return tuple(regions)


def _is_label(text: str) -> bool:
    return 0 < len(text) <= LABEL_LENGTH_MAX and text != PENDING


def _stale(path: str) -> StaleWrite:
    return StaleWrite(f"`{path}` has another current version by now", hint="read it again")


def _done(_answer: Answer) -> None:
    """Understand an answer that says no more than that it was done."""


def _listed(regions: Iterable[str]) -> str:
    return ", ".join(f"`{region}`" for region in regions)


def _statuses(answer: Answer) -> dict[str, str]:
    """Return by their regions what has become of replicas."""
    return {one["Region"]: one["Status"] for one in answer.get("ReplicationStatus") or ()}


def _described(answer: Answer) -> tuple[_Description, bool]:
    stages = {version: frozenset(labels) for version, labels in answer.get("VersionIdsToStages", {}).items()}
    tags = {tag["Key"]: tag["Value"] for tag in answer.get("Tags") or ()}
    if not answer["Name"]:
        raise ValueError
    replicas = tuple(sorted(filter(_REGION.fullmatch, _statuses(answer))))
    primary, own = answer.get("PrimaryRegion") or "", answer["ARN"].split(":")[3:4]
    is_replica = [primary] != own and _REGION.fullmatch(primary)
    description = _Description(stages, tags, replicas, primary if is_replica else "")
    return description, answer.get("DeletedDate") is not None


def _version(entry: Answer) -> StoredVersion:
    labels = tuple(sorted(label for label in entry.get("VersionStages") or () if label != PENDING))
    return StoredVersion(entry["VersionId"], created=to_utc(entry["CreatedDate"]), labels=labels)


def newest_first(versions: Iterable[StoredVersion]) -> list[StoredVersion]:
    """Return versions by their time, those of one moment by what AWS takes for newer."""

    def age(version: StoredVersion) -> tuple[datetime, bool, bool]:
        created = version.created or datetime.min.replace(tzinfo=UTC)
        return created, CURRENT in version.labels, PREVIOUS in version.labels

    return sorted(versions, key=age, reverse=True)


def _found(answer: Answer, path: str) -> Found:
    held = answer["SecretString"] if "SecretString" in answer else answer["SecretBinary"]
    value: Value = to_value(held, path)
    return Found(value, _version(answer), {})


def _metadata(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(TAG_PREFIX): text for key, text in tags.items() if key.startswith(TAG_PREFIX)}


def _tags(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """Return metadata as tags.

    Raises:
        InvalidMetadata: AWS takes no such tags.
    """
    tags = {TAG_PREFIX + key: text for key, text in metadata.items()}
    for key, text in tags.items():
        fits = len(key) <= TAG_KEY_LENGTH_MAX and len(text) <= TAG_VALUE_LENGTH_MAX
        if not fits or not _TAG.fullmatch(key + text):
            message = f"the metadata `{key.removeprefix(TAG_PREFIX)}` can be no tag in AWS"
            raise InvalidMetadata(
                message,
                hint="letters, digits, spaces and + - = . _ : / @; names of at most 117 characters, texts of 255",
            )
    _check_number(tags)
    return [{"Key": key, "Value": text} for key, text in tags.items()]


def _check_number(tags: Mapping[str, str]) -> None:
    if len(tags) > TAGS_MAX:
        message = f"{TITLE} takes at most {TAGS_MAX} tags for each secret, those of others included"
        raise InvalidMetadata(message)
