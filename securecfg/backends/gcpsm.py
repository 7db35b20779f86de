"""`gcpsm:projects/PROJECT[/locations/LOCATION]` - Google Secret Manager.

A secret and its versions are two kinds of things for Google. CreateSecret makes a secret that holds nothing, and is
refused where there is one: of two who create, one does. AddSecretVersion takes no etag and leaves the secret's as it
is, so no write can be held to the version that was seen.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from securecfg.backends.doubt import looking_first
from securecfg.backends.gcpsm_api import Place, SecretManagerApi
from securecfg.backends.gcpsm_login import CREDENTIALS, verify_given
from securecfg.backends.gcpsm_names import (
    ALIAS,
    ANNOTATION_PREFIX,
    NAME_LENGTH_MAX,
    NUMBER,
    TITLE,
    aliases_of,
    annotations_of,
    check_size,
    id_in,
    name_of,
    number_in,
    path_of,
    version_of,
)
from securecfg.backends.interface import Capabilities, Deletion, Found, State, StoredVersion
from securecfg.backends.payloads import BytesAlone, ToldByContent
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
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.keys.gcp import ENDPOINT, LOCATION, PROJECT, crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.backends.gcpsm_api import Answer
    from securecfg.backends.interface import BackendUri, Content, Writing
    from securecfg.backends.payloads import Payloads

VALUE_BYTES_MAX = 65_536
ALIASES_MAX = 50
LATEST = "latest"
CHANGES_MAX = 3

_PLACE = re.compile(rf"{PROJECT}(?:/({LOCATION}))?", re.ASCII)
_RESERVED = frozenset({LATEST, "NEW"})
_OPTIONS = ("endpoint", "metadata", "annotations", "values")
_NOT_FOUND, _EXISTS = "NOT_FOUND", "ALREADY_EXISTS"
_NOT_IN_THIS_STATE, _INVALID = "FAILED_PRECONDITION", "INVALID_ARGUMENT"


class GcpSecrets:
    """Speaks to Google Secret Manager. A read tells a version's number, and nothing else of it.

    Args:
        place: Where it is.
        payloads: How values are held.
    """

    scheme: Final = "gcpsm"

    def __init__(self, place: Place, payloads: Payloads) -> None:
        """Call nothing yet."""
        self._api = SecretManagerApi(place)
        self._place, self._payloads = place, payloads
        self.name = self._api.where
        self.capabilities = Capabilities(
            kinds=payloads.kinds,
            value_bytes_max=VALUE_BYTES_MAX,
            path_bytes_max=NAME_LENGTH_MAX,
            writes=True,
            creates=True,
            keeps_versions=True,
            labels=True,
            deletes=Deletion.FINAL,
        )

    def __repr__(self) -> str:
        """Show which store."""
        return f"{type(self).__name__}({self.name!r})"

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret: its latest version, or the one with this number or alias."""
        resource, selector = self._resource(path), LATEST if version is None else version
        if not NUMBER.fullmatch(selector) and not ALIAS.fullmatch(selector):
            self._describe(path)
            raise _no_version(path)

        def understand(answer: Answer) -> Found:
            number, payload = number_in(answer.name, resource), answer.payload
            held = bytes(payload.data)
            if (number != selector and NUMBER.fullmatch(selector)) or payload.data_crc32c != crc32c(held):
                raise ValueError
            return Found(self._payloads.show(held, path), StoredVersion(number), {})

        try:
            return self._api.ask("access_secret_version", understand, name=f"{resource}/versions/{selector}")
        except Refusal as refusal:
            failure = refusal
        raise self._unreadable(path, version, failure)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all secrets, those without a version included."""
        begins = prefix.replace("/", "--")
        for name in self._api.pages(
            "list_secrets", lambda page: [id_in(secret.name) for secret in page.secrets], self._place.parent
        ):
            if name.startswith(begins):
                yield path_of(name)

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield the versions, newest first."""
        resource, aliases = self._resource(path), self._describe(path).version_aliases
        try:
            found = list(
                self._api.pages(
                    "list_secret_versions",
                    lambda page: [version_of(each, resource, aliases) for each in page.versions],
                    resource,
                )
            )
        except Refusal as refusal:
            raise self._refused(path, refusal) from None
        yield from sorted(found, key=lambda version: int(version.id), reverse=True)

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version and return its number."""
        self._resource(path)
        payload = self._payloads.hold(content)
        annotations = annotations_of(writing.metadata or {})
        if writing.expect == "":
            return self._create(path, payload, annotations)
        try:
            return self._add(path, payload)
        except SecretNotFound:
            self._make(path, annotations)
        try:
            return self._add(path, payload)
        except SecretNotFound:
            raise _in_motion(path) from None

    def label(self, path: str, label: str, version: str | None) -> None:
        """Move an alias, or take it away."""
        if not ALIAS.fullmatch(label) or label in _RESERVED:
            message = "an alias is a letter, then letters, digits, - and _, 63 at most"
            raise InvalidMetadata(message, hint=f"`{LATEST}` moves by itself, and `NEW` is Google's own")
        with looking_first():
            secret = self._describe(path)
            if version is not None:
                self._state_of(path, version)

        def moved(secret: Answer) -> Mapping[str, object] | None:
            aliases = dict(secret.version_aliases)
            if version is None:
                if label not in aliases:
                    raise _no_version(path)
                del aliases[label]
            else:
                aliases[label] = int(version)
            if len(aliases) > ALIASES_MAX:
                message = f"{TITLE} takes at most {ALIASES_MAX} aliases for each secret"
                raise InvalidMetadata(message)
            return None if aliases == dict(secret.version_aliases) else {"version_aliases": aliases}

        self._update(path, secret, moved)

    def delete(self, path: str) -> None:
        """Delete a secret with all its versions, for good."""
        try:
            self._api.ask("delete_secret", lambda _answer: None, name=self._resource(path))
        except Refusal as refusal:
            raise self._refused(path, refusal) from None

    # --- writing ------------------------------------------------------------------------------------------------------

    def _create(self, path: str, payload: bytes, annotations: Mapping[str, str]) -> str:
        """Make a secret and its first version."""
        if not self._make(path, annotations):
            message = f"there is a secret `{path}` in {TITLE} already"
            raise AlreadyExists(message, hint="one that has no value yet is written without `expect`")
        try:
            number = self._add(path, payload)
        except (BackendNotReached, SecretNotFound) as error:
            # Nothing that may be sent again: it would find the secret that it has made itself. That may be unknown for
            # a while where the value goes, as Google says, and somebody else may have deleted it.
            message = f"`{path}` is made, and has no value yet: {error.message}"
            raise BackendUnavailable(message, hint=error.hint) from None
        if number != "1":
            message = f"`{path}` was made, and somebody else wrote to it before its value arrived as version {number}"
            raise CommitUnknown(message, hint="look at its versions")
        return number

    def _make(self, path: str, annotations: Mapping[str, str]) -> bool:
        """Make a secret without a version; return whether there was none."""
        secret: dict[str, object] = {"annotations": annotations}
        if "/locations/" not in self._place.parent:
            secret["replication"] = {"automatic": {}}
        try:
            self._api.ask(
                "create_secret",
                lambda answer: id_in(answer.name),
                parent=self._place.parent,
                secret_id=name_of(path),
                secret=secret,
            )
        except Refusal as refusal:
            if refusal.reason != _EXISTS:
                raise
            return False
        return True

    def _add(self, path: str, payload: bytes) -> str:
        resource = self._resource(path)

        def understand(answer: Answer) -> str:
            if not answer.client_specified_payload_checksum:
                raise ValueError
            return number_in(answer.name, resource)

        checked = {"data": payload, "data_crc32c": crc32c(payload)}
        try:
            return self._api.ask("add_secret_version", understand, parent=resource, payload=checked)
        except Refusal as refusal:
            raise self._refused(path, refusal) from None

    def _update(self, path: str, secret: Answer, change: Callable[[Answer], Mapping[str, object] | None]) -> None:
        """Change a secret on its etag, as it is by then.

        Args:
            path: Which.
            secret: As it was found.
            change: Returns the fields that are to be other ones, None where they are already.
        """
        for _ in range(CHANGES_MAX):
            fields = change(secret)
            if fields is None:
                return
            changed = {"name": self._resource(path), "etag": secret.etag, **fields}
            try:
                self._api.ask("update_secret", lambda _: None, secret=changed, update_mask={"paths": list(fields)})
            except Refusal as refusal:
                if refusal.reason != _NOT_IN_THIS_STATE:
                    raise self._refused(path, refusal) from None
            else:
                return
            with looking_first():
                secret = self._describe(path)
        raise _in_motion(path)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _describe(self, path: str) -> Answer:
        """Return what Google tells of a secret besides its values."""
        resource = self._resource(path)

        def understand(answer: Answer) -> Answer:
            if id_in(answer.name) != name_of(path) or not answer.etag:
                raise ValueError
            return answer

        try:
            return self._api.ask("get_secret", understand, name=resource)
        except Refusal as refusal:
            raise self._refused(path, refusal) from None

    def _state_of(self, path: str, version: str) -> State:
        if not NUMBER.fullmatch(version):
            raise _no_version(path)
        resource = self._resource(path)
        try:
            return self._api.ask(
                "get_secret_version",
                lambda answer: version_of(answer, resource, {}).state,
                name=f"{resource}/versions/{version}",
            )
        except Refusal as refusal:
            if refusal.reason != _NOT_FOUND:
                raise
        raise _no_version(path)

    def _unreadable(self, path: str, version: str | None, refusal: Refusal) -> SecurecfgError:
        """Return the error for a version whose value is not given; who only reads may not be let look for more."""
        if refusal.reason == _NOT_IN_THIS_STATE:
            try:
                return self._held_back(path, version, refusal)
            except BackendDenied:
                message = f"the version of `{path}` is disabled or destroyed in {TITLE}, or the key that encrypts it is"
                return BackendRefused(message, hint="`secretmanager.versions.get` is needed to tell which")
        if version is None or refusal.reason not in {_NOT_FOUND, _INVALID}:
            return self._refused(path, refusal)
        try:
            self._describe(path)
        except BackendDenied:
            return _no_version(path) if refusal.reason == _NOT_FOUND else refusal
        except SecretNotFound as error:
            return error
        return _no_version(path)

    def _held_back(self, path: str, version: str | None, refusal: Refusal) -> SecurecfgError:
        resource = self._resource(path)
        state, number = self._api.ask(
            "get_secret_version",
            lambda answer: ((found := version_of(answer, resource, {})).state, found.id),
            name=f"{resource}/versions/{version or LATEST}",
        )
        if state is State.DISABLED:
            return VersionDisabled(f"version `{number}` of `{path}` is disabled in {TITLE}")
        if state is State.DESTROYED:
            return SecretDestroyed(f"version `{number}` of `{path}` is destroyed in {TITLE}")
        return refusal

    def _resource(self, path: str) -> str:
        return f"{self._place.parent}/secrets/{name_of(path)}"

    @staticmethod
    def _refused(path: str, refusal: Refusal) -> SecurecfgError:
        if refusal.reason == _NOT_FOUND:
            return SecretNotFound(f"there is no secret `{path}` in {TITLE}, or it has no version")
        return refusal


class GcpSecretsWithAnnotations(GcpSecrets):
    """The same with metadata, which are annotations whose keys begin with `securecfg.`. Each read takes a second call.

    Args:
        place: Where it is.
        payloads: How values are held.
    """

    def __init__(self, place: Place, payloads: Payloads) -> None:
        """Call nothing yet."""
        super().__init__(place, payloads)
        self.capabilities = self.capabilities._replace(metadata=True)

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret with its metadata, and the aliases of its version."""
        found = super().read(path, version)
        secret = self._describe(path)
        metadata = {
            key.removeprefix(ANNOTATION_PREFIX): text
            for key, text in secret.annotations.items()
            if key.startswith(ANNOTATION_PREFIX)
        }
        labels = aliases_of(found.version.id, secret.version_aliases)
        return found._replace(version=found.version._replace(labels=labels), metadata=metadata)

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version and then its metadata; where the secret is new, the metadata are there first."""
        if writing.metadata is None or writing.expect == "":
            return super().write(path, content, writing)
        annotations = annotations_of(writing.metadata)

        def annotated(secret: Answer) -> Mapping[str, object] | None:
            present = dict(secret.annotations)
            others = {key: text for key, text in present.items() if not key.startswith(ANNOTATION_PREFIX)}
            wanted = {**others, **annotations}
            check_size(wanted)
            return None if wanted == present else {"annotations": wanted}

        with looking_first(), suppress(SecretNotFound):
            annotated(self._describe(path))
        number = super().write(path, content, writing)
        self._annotate(path, annotated)
        return number

    def _annotate(self, path: str, change: Callable[[Answer], Mapping[str, object] | None]) -> None:
        """Change the metadata of a secret whose value is written already: what fails here leaves it half done."""
        message = f"the value of `{path}` is written, and its metadata may or may not be"
        try:
            self._update(path, self._describe(path), change)
        except SecurecfgError as error:
            failure = CommitUnknown(f"{message}: {error.message}", hint=error.hint)
        else:
            return
        raise failure


def from_uri(uri: BackendUri) -> GcpSecrets:
    """Return the backend for `gcpsm:projects/PROJECT[/locations/LOCATION]`.

    The options are `endpoint`, `metadata`, `annotations` and `values`.

    Raises:
        InvalidBackendUri: The URI says something else, or what is given to log in with cannot be used.
    """
    options = take_options(uri, _OPTIONS, CREDENTIALS)
    place = _PLACE.fullmatch(uri.rest)
    if place is None:
        message = "a `gcpsm:` URI names a project, and a location in it where secrets are regional"
        raise InvalidBackendUri(message, hint="for instance `gcpsm:projects/shop/locations/europe-west3`")
    location, endpoint = place[1], options.get("endpoint")
    if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
        message = "the endpoint of a `gcpsm:` URI is a host below `googleapis.com`, or this machine"
        raise InvalidBackendUri(message, hint="for instance `endpoint=https://secretmanager-shop.p.googleapis.com`")
    if endpoint is None and location:
        endpoint = f"https://secretmanager.{location.removeprefix('locations/')}.rep.googleapis.com"
    if options.get("values", "bytes") != "bytes":
        message = "`values` of a `gcpsm:` URI is `bytes`"
        raise InvalidBackendUri(message, hint="without it, text, fields and bytes are told apart by what they are")
    hint = "write text, or open the store with `values=bytes`"
    payloads: Payloads = ToldByContent(VALUE_BYTES_MAX, TITLE, hint)
    if "values" in options:
        payloads = BytesAlone(VALUE_BYTES_MAX, TITLE)
    has_annotations = is_wanted(uri.scheme, options, "annotations")
    kind = GcpSecretsWithAnnotations if has_annotations else GcpSecrets
    verify_given(uri.credentials)
    return kind(Place(uri.rest, endpoint, is_wanted(uri.scheme, options, "metadata"), uri.credentials), payloads)


def _no_version(path: str) -> VersionNotFound:
    return VersionNotFound(f"`{path}` has no such version or alias in {TITLE}")


def _in_motion(path: str) -> BackendNotReached:
    message = f"somebody else changes `{path}` in {TITLE} at the same time, or has changed it lately"
    return BackendNotReached(message, hint="try again later")
