"""A bundle as programs see it: what can be read of a vault, without the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from securecfg.clock import to_datetime
from securecfg.errors import (
    AccessDenied,
    AuditUnavailable,
    BundleExpired,
    InvalidKeyUri,
    NotAuthenticated,
    SecretExpired,
    SecurecfgError,
    SettingMissing,
    Unsupported,
    VersionNotFound,
)
from securecfg.keys import IdentityProvider
from securecfg.policy import Decision
from securecfg.vault.bundles.opening import OpenBundle, open_bundle
from securecfg.vault.bundles.sinks import open_sink
from securecfg.vault.bundles.trail import Trail
from securecfg.vault.documents import metadata_of
from securecfg.vault.listing import VersionInfo, VersionState, cut_to_depth
from securecfg.vault.paths import check_prefix, path_to_bytes
from securecfg.vault.values import SecretVersion, decode_value
from securecfg.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from securecfg.clock import Clock
    from securecfg.keys import KeyProvider
    from securecfg.policy.explanation import Explanation
    from securecfg.vault.bundles.format import PublishedSecret, PublishedVersion
    from securecfg.vault.bundles.sinks import AuditSink
    from securecfg.vault.reading import At

    # `Vault.list` hides the built-in name inside the class.
    Paths = list[str]
    Versions = list[VersionInfo]
    Results = list[SecretVersion | SecurecfgError]

_READ, _LIST = "read", "list"
_ONLY_A_VAULT = frozenset({"_opened", "_authority", "_reads"})


class _Found(NamedTuple):
    path: str
    secret: PublishedSecret
    version: PublishedVersion


class Bundle(Vault):
    """An open bundle. It is read as a vault is; whatever else a vault can do raises `Unsupported`.

    `Vault.open` gives one where the file is a bundle. May be shared by threads; a forked child opens its own.

    Attributes:
        bundle: What was opened: the role, the serial number, until when it may be used.
    """

    def __init__(self, bundle: OpenBundle, trail: Trail, clock: Clock, *, strict: bool = False) -> None:
        """Take up an open bundle; programs call `Vault.open`."""
        self.bundle = bundle
        self._trail = trail
        self._clock = clock
        self._strict = strict

    def __getattr__(self, name: str) -> object:
        """Refuse what works on a vault's own state.

        Raises:
            Unsupported: Only a vault has it.
        """
        if name in _ONLY_A_VAULT:
            message = "a bundle can only be read"
            raise Unsupported(message, hint="open the vault that it was published from")
        raise AttributeError(name)

    @property
    def principal(self) -> str:
        """On whose behalf the bundle is used: the identity that opened it."""
        return self.bundle.reader.name

    def read(self, path: str, *, at: At = None, allow_expired: bool = False) -> SecretVersion:
        """Return a version of a secret. The read is durable in the sink before this returns. See `Vault.read`.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: The bundle does not hold it.
            BundleExpired: The bundle's time has passed.
            VersionNotFound: The bundle has no such version.
            SecretExpired: The version's time to live has passed.
            AuditUnavailable: The read cannot be recorded, so it did not happen.
            Unsupported: A version is asked for by a point in time; a bundle does not hold them all.
            Tampered: The value does not open.
        """
        found = self._find(path, at, allow_expired=allow_expired)
        self._trail.reads([(path, found.version.number)], repeats=self._strict)
        return self._hand_out(found)

    def read_many(self, wanted: Sequence[tuple[str, At]]) -> Results:
        """Return several versions, or the error of each, with one durable record for all of them.

        Raises:
            AuditUnavailable: The reads cannot be recorded, so none happened.
        """
        results: Results = []
        findings: list[_Found | SecurecfgError] = []
        for path, at in wanted:
            try:
                findings.append(self._find(path, at, allow_expired=False))
            except AuditUnavailable:
                raise
            except SecurecfgError as error:
                findings.append(error)
        places = [(found.path, found.version.number) for found in findings if isinstance(found, _Found)]
        self._trail.reads(places, repeats=self._strict)
        for found in findings:
            try:
                results.append(self._hand_out(found) if isinstance(found, _Found) else found)
            except SecurecfgError as error:
                results.append(error)
        return results

    def prefetch(self, paths: Iterable[str]) -> int:
        """Fetch nothing: a bundle holds all that it has itself. See `Vault.prefetch`."""
        self._check()
        for path in paths:
            check_prefix(path)
        return 0

    def stream(self, path: str, *, at: At = None) -> tuple[SecretVersion, Iterator[bytes]]:
        """Return a version and its content, in one piece. See `Vault.stream`."""
        found = self._find(path, at, allow_expired=False)
        self._trail.reads([(path, found.version.number)], repeats=self._strict)
        content = self.bundle.open_value(found.version)
        return self._describe(found, content), iter((content,))

    def list(self, prefix: str = "", *, depth: int | None = None) -> Paths:
        """Return the paths of the bundle that begin with a prefix and that its readers may list, sorted."""
        self._check()
        check_prefix(prefix)
        paths = [path for path, secret in self.bundle.inventory.secrets.items() if secret.is_listed]
        paths = [path for path in paths if path.startswith(prefix)]
        return paths if depth is None else cut_to_depth(paths, prefix, depth)

    def search(self, text: str) -> Paths:
        """Return the paths of the bundle that contain a text, whatever its case, and that its readers may list."""
        wanted = text.casefold()
        return [path for path in self.list() if wanted in path.casefold()]

    def history(self, path: str) -> Versions:
        """Return the versions that were published of a secret, newest first, without their values.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: The bundle does not hold it, or its readers may not list it.
        """
        self._check()
        path_to_bytes(path)
        secret = self.bundle.inventory.secrets.get(path)
        if secret is None or not secret.is_listed:
            raise self._denial(_LIST, path)
        now = self._clock.now_ns()
        return [_version_info(secret, version, now) for version in secret.versions]

    def explain(self, action: str, path: str, *, principal: str | None = None) -> Explanation:
        """Return whether an action is allowed. Why is not in a bundle: that was decided when it was published.

        Raises:
            Unsupported: It is asked for somebody else.
        """
        from securecfg.policy.explanation import Explanation  # reads do without the engine

        self._check()
        if principal is not None and principal != self.principal:
            message = "a bundle knows nothing of others"
            raise Unsupported(message, hint="ask the vault: `securecfg policy explain`")
        secret = self.bundle.inventory.secrets.get(path)
        allowed = secret is not None and (action == _READ or (action == _LIST and secret.is_listed))
        role = f"role:{self.bundle.inventory.role}"
        why = "a bundle holds what its role may read, and not the rules"
        return Explanation(self.principal, action, path, (role,), Decision(allowed=allowed), (), why)

    def close(self) -> None:
        """Record the counts of repeated reads, and let go of the sink. May be called again.

        Raises:
            AuditUnavailable: The counts cannot be recorded; the bundle is closed all the same.
        """
        self._trail.close()

    def __enter__(self) -> Self:
        """Return the bundle."""
        self._trail.check()
        return self

    def __repr__(self) -> str:
        """Show on whose behalf the bundle is open, nothing of what it holds."""
        state = "closed" if self._trail.is_closed else "open"
        return f"<Bundle {self.bundle.serial} {state} as {self.principal}>"

    # --- steps -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._trail.check()
        expires = self.bundle.inventory.expires
        if expires <= self._clock.now_ns():
            message = f"the bundle could be used until {to_datetime(expires):%Y-%m-%d %H:%M:%S}Z"
            raise BundleExpired(message, hint="ask for a newer one; `securecfg vault publish` makes it")

    def _find(self, path: str, at: At, *, allow_expired: bool) -> _Found:
        self._check()
        path_to_bytes(path)
        secret = self.bundle.inventory.secrets.get(path)
        if secret is None:
            raise self._denial(_READ, path)
        number = _number(secret, at)
        version = next((each for each in secret.versions if each.number == number), None)
        if version is None:
            message = f"the bundle has no version `{'current' if at is None else at}` of `{path}`"
            raise VersionNotFound(message, hint=f"`securecfg secret history {path}` lists those that were published")
        if 0 < version.expires <= self._clock.now_ns() and not allow_expired:
            message = f"version {number} of `{path}` expired at {to_datetime(version.expires):%Y-%m-%d %H:%M:%S}Z"
            raise SecretExpired(message, hint="publish again with a newer one, or allow expired ones on purpose")
        return _Found(path, secret, version)

    def _denial(self, action: str, path: str) -> AccessDenied:
        self._trail.denied(action, path)
        message = f"`{self.principal}` may not {action} `{path}`"
        return AccessDenied(message, hint=f"the bundle holds what `role:{self.bundle.inventory.role}` could read")

    def _hand_out(self, found: _Found) -> SecretVersion:
        return self._describe(found, self.bundle.open_value(found.version))

    def _describe(self, found: _Found, content: bytes) -> SecretVersion:
        path, secret, version = found
        value = decode_value(version.kind, content, f"{path}@{version.number}")
        info = _version_info(secret, version, 0)
        told = (info.created, info.expires, info.labels, info.metadata, info.author, info.content_type)
        return SecretVersion(path, version.number, value, *told)


def open_as_vault(  # noqa: PLR0913 - what `Vault.open` was given
    path: str,
    provider: KeyProvider,
    clock: Clock,
    *,
    sink: str | AuditSink,
    issuer: str,
    principal: str,
    context: Mapping[str, object] | None,
    strict: bool,
    is_issuer_required: bool,
) -> Bundle:
    """Open a bundle for `Vault.open`.

    Raises:
        AuditUnavailable: The sink cannot be used.
        InvalidKeyUri: The key is not an identity.
        NotAuthenticated: The identity is somebody else's than the principal's.
        SettingMissing: No sink is named.
        Unsupported: The host vouches for a context, on which nothing depends here.
        As for `open_bundle`.
    """
    if sink == "":
        message = "a bundle is read only where each read is recorded, and no sink for the records is named"
        hint = 'give `audit="file:PATH"`, `--audit-sink file:PATH`, SECURECFG_AUDIT, or `audit` in the settings'
        raise SettingMissing(message, hint=hint)
    if context:
        message = "what a bundle holds was decided without context"
        raise Unsupported(message, hint="open it without `context`")
    if not isinstance(provider, IdentityProvider):
        message = "a bundle is opened with the identity that it was published for"
        raise InvalidKeyUri(message, hint="name its private half: `identity:PATH`")
    bundle = open_bundle(path, provider, clock, issuer=issuer, is_issuer_required=is_issuer_required)
    if principal not in {"", bundle.reader.name}:
        message = f"this key may not speak for `{principal}`"
        raise NotAuthenticated(message, hint=f"it may speak for `{bundle.reader.name}`")
    opened = open_sink(sink)
    try:
        return Bundle(bundle, Trail(opened, bundle, provider, clock), clock, strict=strict)
    except BaseException:
        # The caller gets nothing to close.
        opened.close()
        raise


def _number(secret: PublishedSecret, at: At) -> int:
    if at is None:
        return secret.labels["current"]
    if isinstance(at, int):
        return at
    if isinstance(at, str):
        return int(at) if at.isascii() and at.isdecimal() else secret.labels.get(at, 0)
    message = "a bundle does not hold all versions, so none can be found by its time"
    raise Unsupported(message, hint="name the version or a label")


def _version_info(secret: PublishedSecret, version: PublishedVersion, now_ns: int) -> VersionInfo:
    is_expired = 0 < version.expires <= now_ns
    own = ("current", "previous", "pending")
    labels = [*own, *(name for name in sorted(secret.labels) if name not in own)]
    return VersionInfo(
        version=version.number,
        state=VersionState.EXPIRED if is_expired else VersionState.LIVE,
        created=to_datetime(version.created),
        expires=to_datetime(version.expires) if version.expires else None,
        deleted=None,
        labels=tuple(name for name in labels if secret.labels.get(name) == version.number),
        metadata=metadata_of(version.metadata),
        author=version.author,
        content_type=version.content_type,
        size_bytes=version.length,
    )
