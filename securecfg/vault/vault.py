"""The vault as programs see it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from securecfg.clock import SystemClock
from securecfg.errors import SecretNotFound, SecurecfgError, UsageError, VaultClosed, WrongKey
from securecfg.keys import ProvesPrincipal, open_provider
from securecfg.vault.authority import Authority
from securecfg.vault.changes import Changes
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.creation import create_vault, identify, log_weakness, open_vault
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.kinds import is_bundle
from securecfg.vault.opened import Options
from securecfg.vault.paths import FIRST_USER_PATH, check_prefix, check_principal, path_to_bytes
from securecfg.vault.reading import Reads
from securecfg.vault.session import Identity
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.values import as_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import BinaryIO

    from securecfg.clock import Clock
    from securecfg.keys import Ask, KeyProvider
    from securecfg.policy import Explanation
    from securecfg.vault.administration import Administration
    from securecfg.vault.auditlog import AuditLog
    from securecfg.vault.bundles.sinks import AuditSink
    from securecfg.vault.closed import Closed
    from securecfg.vault.commits.outcomes import Outcome
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.drops.boxes import Receipt
    from securecfg.vault.drops.dropping import Dropped
    from securecfg.vault.listing import VersionInfo
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.reading import At
    from securecfg.vault.references import SecretRef, VaultResolver
    from securecfg.vault.values import Plain, SecretVersion, VersionId
    from securecfg.vault.writing import Wanted, Writes

    OnRotate = Callable[[SecretRef | None, SecretRef], object]

    # `Vault.list` hides the built-in name inside the class.
    Paths = list[str]
    Versions = list[VersionInfo]
    Results = list[SecretVersion | SecurecfgError]
    Changed = list[object]

C = TypeVar("C", bound="OnRotate")

# What follows rotations stands above this package, too, and is loaded where a program follows one.
_CONSUMERS = "securecfg.rotation.following"

# What serves mounts stands above this package and knows backends, of which nothing is known here. It is loaded by its
# name, as plug-ins are, and only for vaults that have mounts.
_MOUNTED = "securecfg.mounts.mounted"


class Vault(Changes):
    """An open vault, and on whose behalf it is used. May be shared by threads; a forked child opens its own.

    Use `create`, `open` and `acting` to get one. It may be used with `with`, or closed with `close()`.

    Attributes:
        principal: On whose behalf; empty where nobody said, and then everything but `close` is refused.
    """

    _consumers: Any = None  # of a package above this one

    def __init__(self, opened: OpenVault, identity: Identity) -> None:
        """Take up an open vault; programs call `create` or `open`."""
        self._opened = opened
        self._authority = Authority(opened, identity)
        self._reads = Reads(self._authority)
        opened.add_cache(self._reads)
        self._authority.count_with(self._reads.take_counts)
        self._writer: Writes | None = None
        self._owns = True

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        key: str | KeyProvider,
        admin: str,
        ask: Ask | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Create a vault file and open it as its administrator.

        A passphrase that is guessed early is accepted; the log `securecfg.vault` then has a warning.

        Args:
            path: Where; there must be nothing.
            key: A key URI, or a provider.
            admin: The principal that holds `role:admin`; a name without a kind is a user's.
            ask: Asks a person for a passphrase, where the key needs one; None asks on the terminal, if there is one.
            clock: The time.

        Raises:
            AlreadyExists: There is something at the path.
            InvalidKeyUri: The key URI is wrong.
            InvalidMetadata: The administrator is not a principal.
            NotAuthenticated: The key is the identity of somebody else than the administrator.
            KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
            StoreFailed: The file cannot be written; nothing is left behind.
            UnsupportedFileSystem: The file would lie on a network file system.
        """
        from securecfg.vault.administration import found
        from securecfg.vault.settings import terminal_asker

        principal = check_principal(admin if ":" in admin else f"user:{admin}")
        clock = clock or SystemClock()
        provider = open_provider(key, ask=ask or terminal_asker())
        opened = create_vault(path, [provider], clock, Options())
        try:
            vault = cls(opened, identify(opened.replica.keyring.slots[0], provider, principal))
            found(opened, vault._authority.identity)
        except BaseException:
            with suppress(SecurecfgError):
                opened.close()
            # Without its first record there is no administrator, and nobody could ever use it.
            os.unlink(path)  # noqa: PTH108 - without `pathlib`, as the store
            raise
        log_weakness(provider)
        return vault

    @classmethod
    def open(  # noqa: PLR0913 - all but the path are keywords that few give
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        key: str | KeyProvider | None = None,
        principal: str | None = None,
        context: Mapping[str, object] | None = None,
        cache_values: int = 1_024,
        strict: bool = False,
        read_only: bool = False,
        anchor: str = "",
        introduction: str | os.PathLike[str] | None = None,
        reason: str = "",
        audit: str | AuditSink | None = None,
        issuer: str | None = None,
        ask: Ask | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Open a vault file, or a bundle. What is not given is found as the command line finds it.

        Args:
            path: The file; None takes SECURECFG_VAULT or the settings file.
            key: A key URI, or a provider; None takes SECURECFG_KEY or the settings file.
            principal: On whose behalf, `user:NAME` or `svc:NAME`; None takes SECURECFG_AS or the settings file. An
                `identity:` key proves whose it is, so there need be none, and there can be no other.
            context: What the host program vouches for, such as `{"mfa": True}`.
            cache_values: How many opened values may be kept in memory; 0 keeps none.
            strict: Whether every read, repeats too, is durable in the log before its value is returned.
            read_only: Whether to write nothing at all; then no value can be read, since no read can be recorded.
            anchor: `required` refuses a vault that no checkpoint was recorded of on this machine, and a bundle whose
                issuer is neither given nor recorded. An introduction satisfies it.
            introduction: A file from an administrator, of `securecfg scope introduce`, or a checkpoint that was kept
                elsewhere, of `securecfg audit checkpoint`: what the vault has to be and to continue, whatever this
                machine remembers of it.
            reason: Why, where the key is a break-glass identity; it is recorded in every scope before this returns.
            audit: Where the records of a bundle's reads go, such as `file:PATH`; None takes SECURECFG_AUDIT or the
                settings file. A vault has its own log.
            issuer: The verifier key of the vault that a bundle must come from; None takes SECURECFG_ISSUER, the
                settings file, or what this machine has recorded. `unverified` trusts the file.
            ask: Asks a person for a passphrase, where the key needs one; None asks on the terminal, if there is one.
            clock: The time.

        Raises:
            VaultNotFound: There is no such file.
            NotAVault: It is not a vault.
            UnsupportedFormat: It needs a newer version of this library.
            WrongKey: No unlock slot opens with the key.
            NotAuthenticated: The key may not speak for the principal.
            Tampered: A row does not match the signed state.
            RollbackSuspected: The vault is older than what was recorded on this machine.
            AnchorMissing: Nothing was recorded, and it is required.
            SignatureInvalid: The introduction is none, or not signed by the administrators that it names.
            UsageError: There is an introduction to a bundle.
            AuditUnavailable: The key is a break-glass identity, and that it is used cannot be recorded.
            SettingMissing: No vault or key is given or found, or of a bundle no sink, or of break-glass no reason.
            As for `open_bundle`: The file is a bundle, and cannot be opened.
        """
        from securecfg.vault.settings import find_settings, terminal_asker

        settings = find_settings(path, key, principal)
        options = Options(read_only=read_only, strict=strict, cache_values=cache_values)
        name = check_principal(settings.principal) if settings.principal else ""
        provider = open_provider(settings.key, ask=ask or terminal_asker())
        clock = clock or SystemClock()
        is_required = anchor == "required"
        if is_bundle(settings.vault):
            if introduction is not None:
                message = "there are no introductions to bundles"
                raise UsageError(message, hint="say whom it must come from: `issuer=`, the verifier key of its vault")
            from securecfg.vault.bundles.bundle import open_as_vault
            from securecfg.vault.settings import find_bundle_settings

            sink, issuer = find_bundle_settings(settings.vault, audit, issuer)
            return cast(
                "Self",
                open_as_vault(
                    settings.vault,
                    provider,
                    clock,
                    sink=sink,
                    issuer=issuer,
                    principal=name,
                    context=context,
                    strict=strict,
                    is_issuer_required=is_required,
                ),
            )
        who = Identity(name, context=dict(context or {}))
        told = None
        if introduction is not None:
            from securecfg.vault.administrators.introductions import read_introduction  # few give one

            told = read_introduction(introduction, provider)
        known = told.marks if told is not None else None
        try:
            opened, slot = open_vault(
                settings.vault, provider, clock, options, is_anchor_required=is_required, known=known
            )
        except WrongKey as error:
            if not isinstance(provider, ProvesPrincipal):
                raise
            from securecfg.vault.scopes.member_opening import (
                open_as_member,
            )  # for identities that open no slot of the vault itself

            scoped = open_as_member(
                settings.vault,
                provider,
                who,
                clock,
                options,
                is_anchor_required=is_required,
                otherwise=error,
                introduction=told,
                reason=reason,
            )
            return cast("Self", scoped)
        try:
            identity = identify(slot, provider, name)._replace(context=who.context)
            vault = cls(opened, identity)
            if told is not None:
                from securecfg.vault.administrators.introduced import verify_introduced

                verify_introduced(opened.store, opened.replica.vault_id, told)
            whole: Vault = vault
            if opened.has_scopes:
                from securecfg.vault.scopes.scoped import ScopedVault  # for vaults that have scopes

                whole = ScopedVault.over(vault, is_anchor_required=is_required, introduction=told)
            if opened.mounts():
                whole = import_module(_MOUNTED).MountedVault.over(whole)
            return cast("Self", whole)
        except BaseException:
            # The caller gets nothing to close.
            opened.close()
            raise

    @property
    def principal(self) -> str:
        """On whose behalf the vault is used."""
        return self._authority.identity.principal

    @property
    def administration(self) -> Administration:
        """Policy and roles; changes of them reach sealed scopes too, those included that are made meanwhile."""
        if self._opened.replica.seat is not None:
            from securecfg.vault.administration import Administration

            return Administration(self._authority)
        from securecfg.vault.scopes.scoped_administration import ScopedAdministration

        return ScopedAdministration(self._authority)

    @property
    def log(self) -> AuditLog:
        """The audit log."""
        from securecfg.vault.auditlog import AuditLog

        return AuditLog(self._authority)

    @property
    def opened(self) -> OpenVault:
        """What administration, the log and the command line build on. Not for programs that use a vault."""
        return self._opened

    @property
    def authority(self) -> Authority:
        """As `opened`: the decisions and records of this handle."""
        return self._authority

    @property
    def reads(self) -> Reads:
        """As `opened`: the reads of this handle."""
        return self._reads

    @property
    def is_by_root(self) -> bool:
        """Whether the vault itself is open, and not only sealed scopes of it."""
        return self._opened.replica.seat is None

    def authority_over(self, path: str) -> Authority:
        """Return the decisions and records that a path is under: those of the sealed scope that it lies in, if any."""
        del path
        return self._authority

    def part_of(self, path: str) -> tuple[str, Vault]:
        """Return where a path lies: the path of a sealed scope, or nothing for what lies in none, and the part itself.

        Raises:
            ScopeSealed: It lies in a scope that the key at hand does not open.
        """
        del path
        return "", self

    def scope(self, path: str) -> Vault:
        """Return the sealed scope at a path, or that a path lies in, as a vault of its own.

        Raises:
            SecretNotFound: There is none.
            ScopeSealed: The key at hand does not open it.
        """
        message = f"`{path}` is in no sealed scope"
        raise SecretNotFound(message, hint="`securecfg scope list` shows the scopes")

    def parts(self, failures: dict[str, SecurecfgError] | None = None) -> Iterator[tuple[str, Vault]]:  # noqa: ARG002 - one part, which is open
        """Yield the vault itself, and each sealed scope that the key at hand opens with its path, as vaults.

        Args:
            failures: Gets the failure of each scope that does not open, which is then passed over.

        Raises:
            Tampered: What is in a scope is not what its administrators and writers signed.
        """
        yield "", self

    def closed(self, prefix: str = "") -> Closed:
        """Return what may lie below a prefix that the key at hand does not open, so that `list` does not show it.

        Raises:
            InvalidPath: The prefix breaks the rules.
        """
        from securecfg.vault.closed import Closed

        check_prefix(prefix)
        return Closed()

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, path: str, *, at: At = None, allow_expired: bool = False) -> SecretVersion:
        """Return a version of a secret. The read is in the log before this returns.

        Args:
            path: Which secret.
            at: A version's number, a label such as `previous`, or an aware datetime; None for the current one.
            allow_expired: Whether a version may be read after its time to live.

        Raises:
            InvalidPath: The path breaks the rules.
            NotAuthenticated: Nobody says who asks.
            AccessDenied: The policy does not allow it, or there is nothing and the caller may not list it.
            SecretNotFound: There is no live secret at the path.
            VersionNotFound: It has no such version or label, or the version is deleted.
            SecretExpired: The version's time to live has passed.
            SecretDestroyed: The version was destroyed.
            AuditUnavailable: The read cannot be recorded, so it did not happen.
            Tampered, RollbackSuspected: The vault is not what it should be.
        """
        return self._reads.read(path, at, allow_expired=allow_expired)

    def read_many(self, wanted: Sequence[tuple[str, At]]) -> Results:
        """Return several versions, or the error of each, with one durable record for all of them.

        Raises:
            AuditUnavailable: The reads cannot be recorded, so none happened.
            StoreBusy: The policy changes faster than the secrets can be read.
        """
        return self._reads.read_many(wanted)

    def prefetch(self, paths: Iterable[str]) -> int:
        """Fetch what stores that are mounted hold, ahead of its reads, and return how many secrets are known then.

        No value is handed out and no read recorded: the first read of each is decided and recorded as ever. What is
        denied, and recorded as such, or not there is passed over. What the vault holds itself needs no fetching, and
        counts for nothing.

        Args:
            paths: Secrets, and folders that end in `/`, of which what the caller may list and read is meant; empty for
                all.

        Raises:
            InvalidPath: A path breaks the rules; nothing is fetched.
            NotAuthenticated: Nobody says who asks.
            AuditUnavailable: A denial cannot be recorded.
            BackendUnavailable, BackendLoginRefused, BackendDenied, BackendRefused: A store does not give something; all
                the rest was fetched.
        """
        for path in paths:
            check_prefix(path)  # a path, or one that ends in `/`
        self._opened.refresh()
        self._authority.filter_listed([])  # which asks on whose behalf
        return 0

    def stream(self, path: str, *, at: At = None) -> tuple[SecretVersion, Iterator[bytes]]:
        """Return a version, its value left empty, and its content in pieces of at most some hundred KiB.

        A small value, and one with fields, is in the version too. Each piece is authentic; that the value is complete
        is known when the iteration ends without an error. It ends with one where the version is destroyed meanwhile.

        Raises:
            Conflict: By the iteration, where the version was encrypted anew or went over the edge of a sealed scope.
            As for `read`; the iteration too.
        """
        return self._reads.stream(path, at)

    def list(self, prefix: str = "", *, depth: int | None = None) -> Paths:
        """Return the paths of live secrets that begin with a prefix and that the caller may list, sorted.

        Args:
            prefix: What paths begin with; a folder with its `/`, or empty for all.
            depth: How many levels to show below the prefix's folder; deeper ones appear as folders that end in `/`.

        Raises:
            InvalidPath: The prefix breaks the rules.
            NotAuthenticated: Nobody says who asks.
        """
        from securecfg.vault.listing import cut_to_depth  # reads do without it

        first = check_prefix(prefix)
        self._opened.refresh()
        found = self._opened.own(self._opened.entries(first or FIRST_USER_PATH, prefix_end(first)))
        paths = self._authority.filter_listed([path.decode() for path, entry in found if entry.live])
        return paths if depth is None else cut_to_depth(paths, prefix, depth)

    def search(self, text: str) -> Paths:
        """Return the paths of live secrets that contain a text, whatever its case, and that the caller may list.

        Raises:
            NotAuthenticated: Nobody says who asks.
        """
        wanted = text.casefold()
        self._opened.refresh()
        found = self._opened.own(self._opened.entries(FIRST_USER_PATH, None))
        paths = [name for name in (path.decode() for path, entry in found if entry.live) if wanted in name.casefold()]
        return self._authority.filter_listed(paths)

    def history(self, path: str) -> Versions:
        """Return all versions of a secret, newest first, without their values.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: The caller may not list the path.
            SecretNotFound: It never held a secret.
        """
        from securecfg.vault.listing import version_info  # reads do without it

        history, versions = self._reads.history(path)
        now = self._now_ns()
        return [version_info(history, version, now) for version in versions]

    def current(self, path: str) -> VersionInfo:
        """Return what is known of the version that `read` would return, without its value.

        Raises:
            InvalidPath: The path breaks the rules.
            AccessDenied: The caller may not list the path.
            SecretNotFound: There is no live secret at the path.
        """
        for info in self.history(path):
            if "current" in info.labels:
                return info
        message = f"there is no secret `{path}`"
        raise SecretNotFound(message, hint=f"`securecfg secret history {path}` shows its deleted versions")

    def read_document(self, path: str) -> tuple[bytes, str]:
        """Return a configuration document and its content type.

        Raises:
            As for `read`.
            VersionNotFound: The value has fields, so it is no document.
        """
        version = self.read(path)
        content = version.field("").reveal()
        return (content.encode() if isinstance(content, str) else content), version.content_type

    def standing(self, path: str) -> object:
        """Return what changes whenever a secret changes, without deciding or recording anything."""
        part = self.part_of(path)[1]
        part.opened.refresh()
        return part.opened.current_version(path)

    def ref(self, reference: str, *, at: At = None) -> SecretRef:
        """Return a handle on `path` or `path#field` that follows rotation.

        Raises:
            InvalidPath: The path breaks the rules.
        """
        from securecfg.vault.references import SecretRef, parse_ref

        path, field = parse_ref(reference)
        path_to_bytes(path)
        return SecretRef(self, path, field, at)

    @overload
    def on_rotate(self, pattern: str) -> Callable[[C], C]: ...

    @overload
    def on_rotate(self, pattern: str, callback: OnRotate) -> Callable[[], None]: ...

    def on_rotate(self, pattern: str, callback: OnRotate | None = None) -> Callable[[C], C] | Callable[[], None]:
        """Call something after each new current version of the secrets that match and that the caller may read.

        It is called in a thread of its own with two handles, each on one version: the one that was current, None where
        there is none any more, and the one that is. Calls for one secret come one after the other, in the order of the
        versions, none left out that is not deleted by then; those for different secrets run side by side, a few at a
        time. One that raises is recorded, without its text, and made again after pauses that grow to a minute. One that
        returns acknowledges the version where a rotation waits for that.

        What changed while nobody followed is not told, but a version that a rotation waits to have acknowledged is. The
        calls end with the vault. Without a callback it is a decorator:

            @vault.on_rotate("payments/**")
            def reconnect(old: SecretRef | None, new: SecretRef) -> None: ...

        Args:
            pattern: Of paths, as in grant tables: `db/main`, `payments/*`, `payments/**`. What lies in mounts, and in
                sealed scopes whose values the key at hand does not open, is left out.
            callback: What to call; None returns a decorator.

        Returns:
            A function that ends the calls; one that has begun goes on. Of the decorator, what it is given.

        Raises:
            InvalidPath: The pattern is none.
            NotAuthenticated: Nobody says who asks.
            Unsupported: The pattern is of a mount, or the vault is open for reading only.
            ScopeSealed: It is of sealed scopes whose values the key at hand does not open.
            Tampered: A secret's history is not what it should be.
        """
        consumers = self._consumers
        if consumers is None:
            # Of two threads that come here the second gets what the first has made.
            consumers = vars(self).setdefault("_consumers", import_module(_CONSUMERS).open_consumers(self))
        if callback is not None:
            return cast("Callable[[], None]", consumers.follow(pattern, callback))

        def decorate(callback: C) -> C:
            consumers.follow(pattern, callback)
            return callback

        return decorate

    def resolver(self) -> VaultResolver:
        """Return what configuration loading asks for the secrets that references name."""
        from securecfg.vault.references import VaultResolver

        return VaultResolver(self)

    def resolve(self, request_id: str) -> Outcome | None:
        """Return what became of a change whose commit was ambiguous, or None where it certainly did not happen.

        Args:
            request_id: From `CommitUnknown.request_id`.

        Raises:
            RequestTooOld: It is not among the newest 100,000 records of the last seven days, and may lie before them.
            NotAuthenticated: Nobody says who asks.
        """
        from securecfg.vault.commits.outcomes import find_outcome

        return find_outcome(self._authority, request_id)

    def explain(self, action: str, path: str, *, principal: str | None = None) -> Explanation:
        """Return why an action is allowed or denied, in words and as data.

        Asking for somebody else needs the right `policy.read`.

        Raises:
            NotAuthenticated: Nobody says who asks.
            AccessDenied: The explanation is for somebody else, and the caller may not read the policy.
        """
        self._opened.refresh()
        session = self._authority.session()
        if principal is not None and principal != self.principal:
            self._authority.require("policy.read", "")
            other = Authority(self._opened, Identity(check_principal(principal)))
            session = other.session()
            other.close()
        return session.policy.explain(session.request(action, path))

    # --- dropping ----------------------------------------------------------------------------------------------------

    def drop(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Receipt:
        """Hand a value in to a sealed scope, where one of the opener's roles may drop; only an identity may.

        It becomes a version, in the name of who dropped it, when a member who reads and writes opens the scope next.

        Args:
            path: Where.
            value: As for `write`, of at most 256 KiB.
            ttl: As for `write`, from now on.
            metadata: As for `write`.
            content_type: As for `write`.

        Raises:
            InvalidPath: The path breaks the rules.
            InvalidMetadata: Metadata, content type or ttl break theirs.
            UsageError: The value is of no supported type.
            ValueTooLarge: The value has more than 256 KiB.
            ScopeSealed: The path lies in no scope that this key may drop into.
            Conflict: 1,000 values wait in the scope already.
            RollbackSuspected: What lets one drop is older than what was seen on this machine.
            Tampered: It is not what administrators signed.
            CommitUnknown: The store failed while committing; `find_drop(error.request_id)` tells the outcome.
            StoreBusy, StoreFailed: Nothing was handed in.
        """
        del value, ttl, metadata, content_type
        from securecfg.vault.drops.boxes import no_box

        path_to_bytes(path)
        raise no_box(path)

    def may_only_drop(self, path: str) -> bool:
        """Return whether values can be dropped at a path, and not written."""
        del path
        return False

    def find_drop(self, receipt: str) -> Dropped:
        """Return what became of a dropped value.

        Whoever only drops learns whether it still waits. Who may list the path learns which version it became.

        Args:
            receipt: From `Receipt.id`.

        Raises:
            UsageError: It is none.
            RequestTooOld: It waits no more, and what became of it is not among the records that can be looked up.
        """
        from securecfg.vault.drops.dropping import find_dropped

        return find_dropped([self._authority], (), receipt)

    # --- changing ----------------------------------------------------------------------------------------------------

    def destroy(self, path: str, version: VersionId) -> None:
        """Destroy a version for ever: nothing in this file can bring its value back once this has returned.

        What it cannot reach are copies, backups and snapshots made before. An import that wrote the version can no
        longer be undone: its undo material holds the value and is destroyed too.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version.
            SecretDestroyed: It was destroyed before.
            AccessDenied: The policy does not allow it.
            Conflict: An interrupted import needs the value; it must be finished or undone first.
            DestroyPending: It is gone from the vault, but its bytes may lie in the write-ahead log until another
                reader lets go; the next opener finishes.
            CommitUnknown, StoreBusy, StoreFailed: As for `write`.
        """
        from securecfg.audit import Event
        from securecfg.vault.imports.steps import Imports
        from securecfg.vault.writing import WantedChange

        encoded, number = path_to_bytes(path), as_number(version)
        self._opened.check_open()
        self._authority.require("destroy", path)
        Imports(self._authority).release(path, number)

        def draft(drafts: Drafts) -> Plan:
            plan = drafts.destroy(encoded, number)
            plan.state["flags"] = self._opened.replica.state.flags | FLAG_DESTRUCTION_PENDING
            return plan

        self._apply(
            WantedChange((("destroy", path),), draft, Event.SECRET_DESTROYED, lambda _: {"path": path, "ver": number})
        )
        self._authority.keep_counts()
        self._reads.forget()
        finish_destruction(self._opened)

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect changes and make them in one transaction at the end; an exception discards them all.

        Reads do not see the batch. At most 200,000 changes.

        Raises:
            As for the single changes, at the end; then none was made.
        """
        self._opened.check_open()
        batch = Batch(self._authority)
        try:
            yield batch
        except BaseException:
            batch.discard()
            raise
        batch.results = self._apply_batch(batch.discard())

    @contextmanager
    def acting(self, principal: str, *, context: Mapping[str, object] | None = None) -> Iterator[Vault]:
        """Lend the vault to one request of another principal. Everything but the authority is shared.

        Args:
            principal: For whom, `user:NAME` or `svc:NAME`.
            context: What the host program vouches for about this request.

        Raises:
            InvalidMetadata: It is not a principal.
            AccessDenied: The session's own principal may not `impersonate` it.
        """
        self._opened.check_open()
        identity = self._authority.identity
        name = check_principal(principal)
        if name != identity.principal:
            self._authority.require("impersonate", name)
        # Whoever is lent a handle and lends it on does not disappear from the records.
        via = identity.via or (identity.principal if name != identity.principal else "")
        # Whose identity opened the vault proves nothing of those for whom it acts.
        is_proved = identity.is_proved and name == identity.principal
        who = Identity(name, is_proved=is_proved, slot=identity.slot, via=via, context=dict(context or {}))
        acting = Vault(self._opened, who)
        acting._owns = False
        try:
            yield acting
        finally:
            acting.close()

    def _apply(self, wanted: Wanted, *, is_large: bool = False) -> object:
        self._opened.check_open()
        return self._writes.apply(wanted, is_large=is_large)

    def _apply_batch(self, batch: Sequence[Wanted]) -> Changed:
        return self._writes.apply_batch(batch)

    @property
    def _writes(self) -> Writes:
        if self._writer is None:
            from securecfg.vault.writing import Writes  # programs that only read do without it, and what it needs

            self._writer = Writes(self._authority)
        return self._writer

    # --- life --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Record the counts of repeated reads, forget all keys and values, and close the file. May be called again.

        Raises:
            AuditUnavailable: The counts cannot be recorded; the vault is closed all the same.
        """
        try:
            if self._owns:
                self._opened.close()
            else:
                self._authority.close()
        finally:
            self._reads.forget()

    def __enter__(self) -> Self:
        """Return the vault."""
        self._opened.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the vault."""
        self.close()

    def __repr__(self) -> str:
        """Show on whose behalf the vault is open, nothing of what it holds."""
        state = "closed" if self._opened.is_closed else "open"
        return f"<Vault {state} as {self.principal or 'nobody'}>"


class Batch(Changes):
    """Changes that are made together when the `with` block of `Vault.batch` ends.

    What a change returns in a batch is not known until then: every method returns 0 or None.

    Attributes:
        results: After the end: what each change came to, such as the number of a new version.
    """

    def __init__(self, authority: Authority) -> None:
        """Collect nothing yet; programs call `Vault.batch`."""
        self._authority = authority
        self._wanted: list[Wanted] | None = []
        self.results: list[object] = []

    def discard(self) -> list[Wanted]:
        """End the batch and return what was collected."""
        wanted, self._wanted = self._wanted or [], None
        return wanted

    def _apply(self, wanted: Wanted, *, is_large: bool = False) -> object:
        del is_large
        if self._wanted is None:
            message = "the batch has ended"
            raise VaultClosed(message)
        self._wanted.append(wanted)
        return 0
