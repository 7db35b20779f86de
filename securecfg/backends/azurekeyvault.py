"""`azurekeyvault:HOST` - secrets of Azure Key Vault."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from securecfg.backends.azure_contents import VALUE_BYTES_MAX, Held, to_held, to_value
from securecfg.backends.azure_names import NAME_LENGTH_MAX, to_name, to_path
from securecfg.backends.azure_vault import IS_DELETED, KEPT_BACK, NOT_THERE, Answer, AzureVault, Refusal, Request
from securecfg.backends.doubt import looking_first
from securecfg.backends.interface import Capabilities, Deletion, Found, Kind, State, StoredVersion
from securecfg.backends.uri import is_wanted, take_options
from securecfg.errors import (
    BackendRefused,
    InvalidBackendUri,
    InvalidMetadata,
    SecretNotFound,
    SecurecfgError,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.keys.azure_answers import VERSION
from securecfg.keys.azure_hosts import AZURE_DOMAIN, CREDENTIALS, VAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.backends.interface import BackendUri, Content, Writing
    from securecfg.secret import Secret

TITLE = "Azure Key Vault"
TAGS_MAX, TAG_LENGTH_MAX = 15, 512

# Whoever else answered would be sent the values.
_PLACE = re.compile(rf"(?:https://)?(?P<host>{VAULT_NAME}\.vault\.{AZURE_DOMAIN})/?", re.ASCII)
_RECOVERABLE = "Recoverable"


class _Entry(NamedTuple):
    """What the service tells of a version besides its value."""

    version: StoredVersion
    tags: Mapping[str, str]
    is_recoverable: bool

    @property
    def age(self) -> datetime:
        return self.version.created or datetime.min.replace(tzinfo=UTC)


class AzureSecrets:
    """Speaks to one vault. Credentials are those that `azure-identity` finds without asking a person.

    Args:
        host: Where the vault is.
        given: Credentials that stand before all others, by the names of their variables.
        asks_metadata: Whether a metadata service may be asked for a managed identity.
    """

    scheme: Final = "azurekeyvault"
    capabilities: Final = Capabilities(
        kinds=frozenset(Kind),
        value_bytes_max=VALUE_BYTES_MAX,
        path_bytes_max=NAME_LENGTH_MAX,
        writes=True,
        keeps_versions=True,
        metadata=True,
        deletes=Deletion.SOFT,
    )

    def __init__(self, host: str, given: Mapping[str, Secret[str]], *, asks_metadata: bool) -> None:
        """Call nothing yet."""
        self.name = host
        self._vault = AzureVault(self.scheme, host, given, asks_metadata=asks_metadata)

    def __repr__(self) -> str:
        """Show which vault."""
        return f"AzureSecrets({self.name!r})"

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret: its newest version, or the one with this id. What has expired is given all the same."""
        name = to_name(path)
        if version is not None and not VERSION.fullmatch(version):
            raise self._no_version(path)
        at = f"secrets/{name}/{version or ''}"
        try:
            return self._vault.ask(Request("get", "GET", at), lambda answer: self._found(answer, path, version))
        except Refusal as refusal:
            failure = self._refused(path, refusal)
        if isinstance(failure, SecretNotFound) and version is not None:
            failure = self._no_version(path)
        raise failure

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of the secrets that are not deleted, disabled ones included."""
        names = self._vault.pages("secrets", lambda entry: self._vault.verify_id(entry["id"], "secrets"))
        for name in names:
            path = to_path(name)
            if not path or path.startswith(prefix):
                yield path

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield the versions, newest first. The service gives them in no order, and their age in whole seconds."""
        entries = sorted(self._entries(path), key=lambda entry: entry.age, reverse=True)
        newest = [entry.version for entry in entries if entry.age == entries[0].age]
        if len(newest) > 1:
            current = self._current_id(path)
            newest.sort(key=lambda version: version.id != current)
        yield from newest
        yield from (entry.version for entry in entries[len(newest) :])

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version and return its id. Tags belong to a version: those of the last one are sent along."""
        name = to_name(path)
        held = to_held(content)
        if writing.metadata is None:
            with looking_first():
                tags = self._tags(path)
        else:
            tags = _check_tags(writing.metadata)
        body = {"value": held.text, "contentType": held.content_type, "tags": dict(tags)}
        try:
            return self._vault.ask(
                Request("set", "PUT", f"secrets/{name}", body=body), lambda answer: self._entry(answer, name).version.id
            )
        except Refusal as refusal:
            failure: SecurecfgError = refusal
            if refusal.reason == IS_DELETED:
                message = f"{TITLE} keeps the name of `{path}`, which is deleted"
                hint = (
                    "bring it back, or wait until it is gone for good; `az keyvault secret purge` makes it so at once"
                )
                failure = BackendRefused(message, hint=hint)
        raise failure

    def delete(self, path: str) -> None:
        """Delete a secret with all its versions, where it can come back."""
        name = to_name(path)
        with looking_first():
            entry = self._any_entry(path)
        if not entry.is_recoverable:
            message = f"what is deleted in `{self.name}` is gone for ever, as soft deletion is off there"
            raise BackendRefused(message, hint="turn soft deletion on in the properties of the vault")
        try:
            self._vault.ask(Request("delete", "DELETE", f"secrets/{name}"), _done)
        except Refusal as refusal:
            failure = self._refused(path, refusal)
        else:
            return
        raise failure

    def recover(self, path: str) -> None:
        """Bring a deleted secret back."""
        try:
            self._vault.ask(Request("recover", "POST", f"deletedsecrets/{to_name(path)}/recover"), _done)
        except Refusal as refusal:
            failure = self._refused(path, refusal)
        else:
            return
        if isinstance(failure, SecretNotFound):
            with looking_first():
                self._any_entry(path)  # nothing happens to one that is there
            return
        raise failure

    # --- looking ------------------------------------------------------------------------------------------------------

    def _entries(self, path: str) -> Iterator[_Entry]:
        """Yield what is told of each version, in no order.

        Raises:
            SecretNotFound: There is none. Some services answer with an empty list.
        """
        name = to_name(path)
        is_there = False
        try:
            for entry in self._vault.pages(f"secrets/{name}/versions", lambda answer: self._entry(answer, name)):
                is_there = True
                yield entry
        except Refusal as refusal:
            failure = self._refused(path, refusal)
        else:
            if is_there:
                return
            failure = self._not_found(path)
        raise failure

    def _any_entry(self, path: str) -> _Entry:
        return next(self._entries(path))

    def _tags(self, path: str) -> Mapping[str, str]:
        """Return the tags of the newest version; none where there is no secret yet."""
        name = to_name(path)
        try:
            return self._vault.ask(
                Request("get", "GET", f"secrets/{name}/"), lambda answer: self._entry(answer, name).tags
            )
        except Refusal as refusal:
            if refusal.reason in KEPT_BACK:
                return max(self._entries(path), key=lambda entry: entry.age).tags
            if refusal.reason in {NOT_THERE, IS_DELETED}:
                return {}
            raise

    def _current_id(self, path: str) -> str:
        """Return the id of the newest version, an empty text where the service keeps it back."""
        name = to_name(path)
        try:
            return self._vault.ask(
                Request("get", "GET", f"secrets/{name}/"), lambda answer: self._entry(answer, name).version.id
            )
        except Refusal as refusal:
            if refusal.reason in KEPT_BACK:
                return ""
            failure = self._refused(path, refusal)
        raise failure

    # --- what answers mean --------------------------------------------------------------------------------------------

    def _found(self, answer: Answer, path: str, asked: str | None) -> Found:
        entry = self._entry(answer, to_name(path))
        text, content_type = answer["value"], answer.get("contentType") or ""
        if not isinstance(text, str) or not isinstance(content_type, str) or asked not in {None, entry.version.id}:
            raise TypeError
        return Found(to_value(Held(text, content_type), path), entry.version, entry.tags)

    def _entry(self, answer: Answer, name: str) -> _Entry:
        id_ = self._vault.verify_id(answer["id"], f"secrets/{name}")
        attributes, tags = answer["attributes"], answer.get("tags") or {}
        created = attributes.get("created")
        if not VERSION.fullmatch(id_):
            raise ValueError
        return _Entry(
            StoredVersion(
                id_,
                State.LIVE if attributes.get("enabled", True) is True else State.DISABLED,
                None if created is None else datetime.fromtimestamp(created, UTC),
            ),
            {str(key): str(text or "") for key, text in tags.items()},
            _RECOVERABLE in str(attributes.get("recoveryLevel")),
        )

    def _refused(self, path: str, refusal: Refusal) -> SecurecfgError:
        """Return the error for a refusal."""
        if refusal.reason in {NOT_THERE, IS_DELETED}:
            return self._not_found(path)
        if refusal.reason in KEPT_BACK:
            message = f"this version of `{path}` is disabled in {TITLE}"
            return VersionDisabled(message, hint="`az keyvault secret set-attributes --enabled true` enables it")
        return refusal

    def _not_found(self, path: str) -> SecretNotFound:
        return SecretNotFound(f"there is no secret `{path}` in {TITLE}")

    def _no_version(self, path: str) -> SecurecfgError:
        """Return the error for a version that is not found: which of two depends on whether the secret is there."""
        try:
            self._current_id(path)
        except SecretNotFound as error:
            return error
        return VersionNotFound(f"`{path}` has no such version in {TITLE}")


def from_uri(uri: BackendUri) -> AzureSecrets:
    """Return the backend for `azurekeyvault:HOST` or the URL of a vault, with the option `metadata`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, ("metadata",), CREDENTIALS)
    place = _PLACE.fullmatch(uri.rest)
    if place is None:
        message = "an `azurekeyvault:` URI names a vault by its host or its URL, in one of Azure's own domains"
        raise InvalidBackendUri(message, hint="for instance `azurekeyvault:shop.vault.azure.net`")
    if uri.credentials and uri.credentials.keys() != set(CREDENTIALS):
        message = "of the credentials of `azurekeyvault:` there are all three, or none"
        raise InvalidBackendUri(message, hint=", ".join(f"`{name}`" for name in CREDENTIALS))
    return AzureSecrets(place["host"], uri.credentials, asks_metadata=is_wanted(uri.scheme, options, "metadata"))


def _done(_answer: Answer) -> None:
    """Understand an answer that says no more than that it was done."""


def _check_tags(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Return metadata that the service takes as tags.

    Raises:
        InvalidMetadata: There are too many, or one is too long.
    """
    if len(metadata) > TAGS_MAX:
        message = f"{TITLE} takes at most {TAGS_MAX} tags for each version"
        raise InvalidMetadata(message)
    for key, text in metadata.items():
        if max(len(key), len(text)) > TAG_LENGTH_MAX:
            message = f"the metadata `{key}` can be no tag in {TITLE}"
            raise InvalidMetadata(message, hint=f"names and texts have at most {TAG_LENGTH_MAX} characters")
    return metadata
