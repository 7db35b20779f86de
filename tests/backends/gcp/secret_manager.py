"""Google Secret Manager for tests, made of the published classes, behind a JSON face.

The rules are those that Google documents. A secret is made without a version; AddSecretVersion numbers them from 1,
takes no etag, leaves the secret's as it is, and verifies a checksum that is given. UpdateSecret and DeleteSecret are
held to an etag that is given, and refuse with `FAILED_PRECONDITION`, as does AccessSecretVersion for a version that is
not enabled. `latest` is the version that was made last, whatever its state. Names in answers have the project's number.

Who asks is told by a token that a service account has signed by itself; what it may do, by how its address begins.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.cloud import secretmanager_v1 as sm
from google.cloud.secretmanager_v1.services.secret_manager_service.transports.rest_base import (
    _BaseSecretManagerServiceRestTransport as Rules,
)

from securecfg.keys.gcp import crc32c
from tests.keys.gcp import account_key
from tests.keys.google_http import Code, JsonFace, Server, caller_of, refuse, routes, verify_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

AUDIENCE = "https://secretmanager.googleapis.com/"
PROJECT, NUMBER = "projects/shop", "projects/123456789012"
State = sm.SecretVersion.State
# Access comes before GetSecretVersion, whose rule fits it too.
METHODS = (
    "AccessSecretVersion",
    "AddSecretVersion",
    "CreateSecret",
    "DeleteSecret",
    "DestroySecretVersion",
    "DisableSecretVersion",
    "EnableSecretVersion",
    "GetSecret",
    "GetSecretVersion",
    "ListSecrets",
    "ListSecretVersions",
    "UpdateSecret",
)
RIGHTS = {
    "admin": frozenset(METHODS),
    "reader": frozenset({"AccessSecretVersion"}),
    "maker": frozenset({"CreateSecret", "GetSecret"}),
}
UPDATED = frozenset({"annotations", "labels", "version_aliases"})


@dataclass
class Version:
    """One version of a secret."""

    name: str
    payload: bytes
    created: datetime
    state: Any = State.ENABLED
    is_checked: bool = True


@dataclass
class Held:
    """One secret."""

    name: str
    created: datetime
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    version_aliases: dict[str, int] = field(default_factory=dict)
    etag: int = 1
    versions: list[Version] = field(default_factory=list)


class SecretManager:
    """Secrets, and what is done with them.

    Attributes:
        secrets: By their resource names.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, Held] = {}
        self._lock = threading.Lock()
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def call(self, method: str, request: Any) -> Any:  # noqa: ANN401 - one type for each method
        """Answer a request."""
        handle: Callable[[Any], Any] = getattr(self, re.sub("(?<=.)([A-Z])", r"_\1", method).lower())
        with self._lock:
            return handle(request)

    def put(self, name: str, *payloads: bytes, parent: str = PROJECT) -> Held:
        """Let a secret be there with versions, as others made it."""
        held = Held(f"{_canonical(parent)}/secrets/{name}", self._tick())
        for payload in payloads:
            self._append(held, payload)
        self.secrets[held.name] = held
        return held

    # --- secrets ------------------------------------------------------------------------------------------------------

    def create_secret(self, request: sm.CreateSecretRequest) -> sm.Secret:
        secret = request.secret
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", request.secret_id):
            refuse(Code.INVALID_ARGUMENT, f"The provided Secret ID [{request.secret_id}] is invalid.")
        if ("/locations/" in request.parent) == ("automatic" in secret.replication):
            refuse(Code.INVALID_ARGUMENT, "Field [secret.replication] is required, and refused in a location.")
        held = Held(f"{_canonical(request.parent)}/secrets/{request.secret_id}", self._tick())
        held.annotations = _annotations(secret)
        if held.name in self.secrets:
            refuse(Code.ALREADY_EXISTS, f"Secret [{held.name}] already exists.")
        self.secrets[held.name] = held
        return _shown(held)

    def get_secret(self, request: sm.GetSecretRequest) -> sm.Secret:
        return _shown(self._secret(request.name))

    def update_secret(self, request: sm.UpdateSecretRequest) -> sm.Secret:
        secret, held = request.secret, self._secret(request.secret.name)
        paths = set(request.update_mask.paths)
        if not paths or not paths <= UPDATED:
            refuse(Code.INVALID_ARGUMENT, "The field mask is invalid.")
        _verify_etag(held, secret.etag)
        if "annotations" in paths:
            held.annotations = _annotations(secret)
        if "version_aliases" in paths:
            held.version_aliases = self._aliases(held, dict(secret.version_aliases))
        held.etag += 1
        return _shown(held)

    def delete_secret(self, request: sm.DeleteSecretRequest) -> None:
        held = self._secret(request.name)
        _verify_etag(held, request.etag)
        del self.secrets[held.name]

    def list_secrets(self, request: sm.ListSecretsRequest) -> sm.ListSecretsResponse:
        if request.filter:
            refuse(Code.INVALID_ARGUMENT, "This double knows no filters.")
        begins = f"{_canonical(request.parent)}/secrets/"
        held = [each for name, each in self.secrets.items() if name.startswith(begins)]
        page, following = _page(held[::-1], request)
        return sm.ListSecretsResponse(
            secrets=[_shown(each) for each in page], next_page_token=following, total_size=len(held)
        )

    # --- versions -----------------------------------------------------------------------------------------------------

    def add_secret_version(self, request: sm.AddSecretVersionRequest) -> sm.SecretVersion:
        held, payload = self._secret(request.parent), request.payload
        if not 0 < len(payload.data) <= 65_536:
            refuse(Code.INVALID_ARGUMENT, "Secret Payload cannot be empty or longer than 65536 bytes.")
        given = payload.data_crc32c if "data_crc32c" in payload else None
        is_checked = verify_checksum("data", payload.data, given)
        return _shown_version(self._append(held, payload.data, is_checked=is_checked))

    def access_secret_version(self, request: sm.AccessSecretVersionRequest) -> sm.AccessSecretVersionResponse:
        version = self._version(request.name)
        if version.state != State.ENABLED:
            refuse(
                Code.FAILED_PRECONDITION,
                f"Secret Version [{version.name}] is in {State(version.state).name} state.",
            )
        checksum = crc32c(version.payload)
        return sm.AccessSecretVersionResponse(
            name=version.name, payload=sm.SecretPayload(data=version.payload, data_crc32c=checksum)
        )

    def get_secret_version(self, request: sm.GetSecretVersionRequest) -> sm.SecretVersion:
        return _shown_version(self._version(request.name))

    def list_secret_versions(self, request: sm.ListSecretVersionsRequest) -> sm.ListSecretVersionsResponse:
        held = self._secret(request.parent)
        page, following = _page(held.versions[::-1], request)
        return sm.ListSecretVersionsResponse(
            versions=[_shown_version(each) for each in page], next_page_token=following, total_size=len(held.versions)
        )

    def disable_secret_version(self, request: sm.DisableSecretVersionRequest) -> sm.SecretVersion:
        return self._set_state(request.name, State.DISABLED)

    def enable_secret_version(self, request: sm.EnableSecretVersionRequest) -> sm.SecretVersion:
        return self._set_state(request.name, State.ENABLED)

    def destroy_secret_version(self, request: sm.DestroySecretVersionRequest) -> sm.SecretVersion:
        return self._set_state(request.name, State.DESTROYED)

    def _set_state(self, name: str, state: Any) -> sm.SecretVersion:  # noqa: ANN401 - Google's enumeration
        version = self._version(name)
        if version.state == State.DESTROYED:
            refuse(Code.FAILED_PRECONDITION, f"Secret Version [{version.name}] is in DESTROYED state.")
        version.state = state
        if state == State.DESTROYED:
            version.payload = b""
        return _shown_version(version)

    def _secret(self, name: str) -> Held:
        name = _canonical(name)
        return self.secrets.get(name) or refuse(Code.NOT_FOUND, f"Secret [{name}] not found.")

    def _version(self, name: str) -> Version:
        secret, _, selector = name.rpartition("/versions/")
        held = self._secret(secret)
        if selector == "latest":
            return held.versions[-1] if held.versions else refuse(Code.NOT_FOUND, f"[{name}] has no versions.")
        number = held.version_aliases.get(selector) or (int(selector) if selector.isdigit() else 0)
        if not 0 < number <= len(held.versions):
            refuse(Code.NOT_FOUND, f"Secret Version [{name}] not found.")
        return held.versions[number - 1]

    def _aliases(self, held: Held, aliases: dict[str, int]) -> dict[str, int]:
        for alias, number in aliases.items():
            if not re.fullmatch(r"(?!(?:latest|NEW)$)[A-Za-z][A-Za-z0-9_-]{0,62}", alias) or len(aliases) > 50:
                refuse(Code.INVALID_ARGUMENT, f"The alias [{alias}] is invalid.")
            if not 0 < number <= len(held.versions):
                refuse(Code.NOT_FOUND, f"Secret Version [{held.name}/versions/{number}] not found.")
        return aliases

    def _append(self, held: Held, payload: bytes, *, is_checked: bool = False) -> Version:
        name = f"{held.name}/versions/{len(held.versions) + 1}"
        held.versions.append(Version(name, payload, self._tick(), is_checked=is_checked))
        return held.versions[-1]

    def _tick(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now


def _canonical(name: str) -> str:
    return NUMBER + name.removeprefix(PROJECT) if name.startswith(f"{PROJECT}/") or name == PROJECT else name


def _annotations(secret: sm.Secret) -> dict[str, str]:
    annotations = dict(secret.annotations)
    for key in annotations:
        if not re.fullmatch(r"[a-z0-9A-Z](?:[a-z0-9A-Z_.-]{0,61}[a-z0-9A-Z])?", key):
            refuse(Code.INVALID_ARGUMENT, f"The annotation key [{key}] is invalid.")
    if sum(len((key + text).encode()) for key, text in annotations.items()) >= 16_384:
        refuse(Code.INVALID_ARGUMENT, "The annotations are too large.")
    return annotations


def _verify_etag(held: Held, etag: str) -> None:
    if etag and etag != f'"{held.etag}"':
        refuse(Code.FAILED_PRECONDITION, "The etag does not match the current one.")


def _page(entries: Sequence[Any], request: Any) -> tuple[Sequence[Any], str]:  # noqa: ANN401 - one type for each method
    start, size = int(request.page_token or 0), min(request.page_size or 100, 25_000)
    return entries[start : start + size], str(start + size) if start + size < len(entries) else ""


def _shown(held: Held) -> sm.Secret:
    return sm.Secret(
        name=held.name,
        create_time=held.created,
        etag=f'"{held.etag}"',
        annotations=held.annotations,
        version_aliases=held.version_aliases,
    )


def _shown_version(version: Version) -> sm.SecretVersion:
    return sm.SecretVersion(
        name=version.name,
        create_time=version.created,
        state=version.state,
        etag='"1"',
        client_specified_payload_checksum=version.is_checked,
    )


@contextmanager
def serve(service: SecretManager) -> Iterator[int]:
    """Serve secrets, and give the port."""
    public = account_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def call(method: str, request: Any, authorization: str) -> Any:  # noqa: ANN401 - one type for each method
        caller = caller_of(authorization, public, AUDIENCE)
        if method not in RIGHTS.get(caller.partition("@")[0], frozenset()):
            refuse(Code.PERMISSION_DENIED, f"Permission for {method} denied on resource (or it may not exist).")
        return service.call(method, request)

    face = type("SecretManagerFace", (JsonFace,), {"routes": ROUTES, "call": staticmethod(call)})
    server = Server(("127.0.0.1", 0), face)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


ROUTES = routes(Rules, sm, METHODS)
