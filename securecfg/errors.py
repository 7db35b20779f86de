"""Every error that this library raises on purpose.

A family is what a caller branches on, and each family has one exit code; a leaf is what is worth naming. No exception
of a dependency escapes: it is turned into one of these at the rim where it occurs.

    SecurecfgError                                     exit code
    ├── UsageError                                      2   what was asked cannot be meant
    │   ├── InvalidPath  InvalidKeyUri  InvalidMetadata  InvalidReference  ValueTooLarge
    │   ├── InvalidBackendUri  InvalidRotation
    │   ├── InvalidPolicy  InvalidGrants  InvalidCases  InvalidTrustFile  InvalidSigningKey
    │   ├── ConfigError                                     a configuration is wrong; has a place
    │   │   └── ConfigSyntaxError  ConfigTypeError  UnknownProfile  SecretInPlainField
    │   │       ConfigLimitExceeded  ConfigErrors
    │   └── ConfirmationRequired  VaultClosed  VaultForked  SettingMissing
    ├── NotFound                                        3   SecretNotFound  VersionNotFound  SecretExpired
    │                                                       SecretDestroyed  ConfigKeyNotFound  FileMissing
    │                                                       VaultNotFound  RequestTooOld  BundleExpired
    │                                                       VersionDisabled  RotationNotFound
    ├── NotAuthenticated                                4   BackendLoginRefused  CredentialRefused
    ├── AccessDenied                                    5   DeniedByPolicyError (the decision itself could not be made)
    │                                                       SignaturesMissing  BackendDenied  PrivilegeMissing
    ├── Conflict                                        6   StaleWrite  AlreadyExists  LastSlot  UndoUnavailable
    │                                                       ConfusablePath  HeadMoved  CheckFailed  EpochInUse
    │                                                       BackendRefused  PathMounted  CandidateRejected
    │                                                       RotationFailed  RotationBusy
    ├── Sealed                                          7   WrongKey  SlotRemoved  ScopeSealed
    │   └── KeyProviderRefused                              KeyAccessDenied (PinIncorrect)  KeyDisabled  KeyMissing
    │                                                       ShareRefused
    ├── IntegrityError                                  8   Tampered  RollbackSuspected  LogTampered  LogTruncated
    │                                                       LogStale  AnchorMissing  SignatureInvalid  NotAVault
    │                                                       NotABackup  BackupTruncated  BackupAltered
    │                                                       BackupChainBroken  NotABundle
    │                                                       BundleChainBroken  IssuerUnknown
    ├── Unavailable                                     9   CommitUnknown  AuditUnavailable  StoreBusy  StoreFailed
    │                                                       DestroyPending
    │                                                       KeyProviderUnavailable (TokenMissing)
    │                                                       BackendUnavailable (BackendNotReached)
    │                                                       TargetUnavailable  RotationWaits
    └── Unsupported                                    10   UnsupportedFormat  UnsupportedFileSystem  ExtraMissing
                                                            ModuleMissing

A message says what failed: lower case, one line, no period, input in backticks, never a secret. A hint says what to do
next, separately; a traceback shows it below the message, as a note (PEP 678).
"""

from __future__ import annotations

from typing import ClassVar


class SecurecfgError(Exception):
    """The root of all errors of this library.

    Attributes:
        code: A literal, unique, kebab-case name, documented in the reference of errors.
        exit_code: What the command line exits with.
        message: What failed; `str()` of the error is the same.
        hint: What to do next, or an empty string. It is a note of the error too, so that tracebacks show it.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the hint apart."""
        super().__init__(message)
        self.message = message
        self._hint = ""
        self.hint = hint

    @property
    def hint(self) -> str:
        """What to do next, or an empty string."""
        return self._hint

    @hint.setter
    def hint(self, hint: str) -> None:
        notes = [note for note in getattr(self, "__notes__", ()) if note != f"hint: {self._hint}"]
        self.__notes__ = [f"hint: {hint}", *notes] if hint else notes
        self._hint = hint


# --- 2: usage ---------------------------------------------------------------------------------------------------------


class UsageError(SecurecfgError):
    """What was asked for cannot be meant: a bad argument, path, policy or file."""

    code = "usage"
    exit_code = 2


class InvalidPath(UsageError):
    """A path breaks the rules for paths."""

    code = "invalid-path"


class InvalidKeyUri(UsageError):
    """A key URI cannot be parsed or names no known provider."""

    code = "invalid-key-uri"


class InvalidBackendUri(UsageError):
    """A URI of a backend cannot be parsed, or its scheme is unknown."""

    code = "invalid-backend-uri"


class InvalidRotation(UsageError):
    """A rotator is unknown, or its options, its schedule or the value that it is for make no sense."""

    code = "invalid-rotation"


class InvalidMetadata(UsageError):
    """Metadata, a label or a principal breaks its rules."""

    code = "invalid-metadata"


class InvalidReference(UsageError):
    """A secret reference such as `${secret:...}` cannot be parsed."""

    code = "invalid-reference"


class ValueTooLarge(UsageError):
    """A value is larger than the format allows."""

    code = "value-too-large"


class InvalidPolicy(UsageError):
    """A Cedar policy does not parse, does not validate or lacks an `@id`."""

    code = "invalid-policy"


class InvalidGrants(UsageError):
    """A grant table is wrong."""

    code = "invalid-grants"


class InvalidCases(UsageError):
    """A file of policy test cases is wrong."""

    code = "invalid-cases"


class InvalidTrustFile(UsageError):
    """A trust file (`allowed_signers`) is wrong."""

    code = "invalid-trust-file"


class InvalidSigningKey(UsageError):
    """A private key for signing cannot be read, is too weak, or needs another passphrase."""

    code = "invalid-signing-key"


class ConfirmationRequired(UsageError):
    """What cannot be undone needs an explicit yes and did not get it."""

    code = "confirmation-required"


class VaultClosed(UsageError):
    """The vault, batch or handle was closed before this call."""

    code = "vault-closed"


class VaultForked(UsageError):
    """The vault was opened before a fork; the child must open it again."""

    code = "vault-forked"


class SettingMissing(UsageError):
    """A vault, key or principal is needed and no flag, variable or settings file names one."""

    code = "setting-missing"


class ConfigError(UsageError):
    """A configuration is wrong at a known place.

    Attributes:
        place: `file:line:column` or another name of the source, or an empty string.
    """

    code = "config"

    def __init__(self, message: str, *, hint: str = "", place: str = "") -> None:
        """Put the place in front of the message."""
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.place = place


class ConfigSyntaxError(ConfigError):
    """A file does not follow its format."""

    code = "config-syntax"


class ConfigTypeError(ConfigError):
    """A value does not fit the type that is asked of it."""

    code = "config-type"


class UnknownProfile(ConfigError):
    """No file or section defines the profile asked for."""

    code = "unknown-profile"


class SecretInPlainField(ConfigError):
    """A secret reference is bound to a field that would show it."""

    code = "secret-in-plain-field"


class ConfigLimitExceeded(ConfigError):
    """A file is larger, deeper or more expanded than the limits allow."""

    code = "config-limit"


class ConfigErrors(ConfigError):
    """Several independent problems, reported together.

    Attributes:
        problems: The single errors, in the order of their places.
    """

    code = "config-errors"

    def __init__(self, problems: tuple[SecurecfgError, ...], *, hint: str = "") -> None:
        """Join the problems, one to a line."""
        lines = "".join(f"\n  {problem.message}" for problem in problems)
        super().__init__(f"{len(problems)} problems in the configuration{lines}", hint=hint or problems[0].hint)
        self.problems = problems


# --- 3: not found -----------------------------------------------------------------------------------------------------


class NotFound(SecurecfgError):
    """What was named does not exist."""

    code = "not-found"
    exit_code = 3


class SecretNotFound(NotFound):
    """No live secret has this path."""

    code = "secret-not-found"


class VersionNotFound(NotFound):
    """The secret has no such version, label or field, or the version is deleted."""

    code = "version-not-found"


class VersionDisabled(NotFound):
    """The store keeps this version back until somebody enables it."""

    code = "version-disabled"


class SecretExpired(NotFound):
    """The version's time to live has passed."""

    code = "secret-expired"


class SecretDestroyed(NotFound):
    """The version was destroyed and cannot be recovered."""

    code = "secret-destroyed"


class ConfigKeyNotFound(NotFound):
    """The configuration has no such key."""

    code = "config-key-not-found"


class FileMissing(NotFound):
    """A file that was named does not exist."""

    code = "file-missing"


class VaultNotFound(NotFound):
    """There is no vault at this path."""

    code = "vault-not-found"


class RequestTooOld(NotFound):
    """The request id is older than the window in which its outcome can be looked up."""

    code = "request-too-old"


class BundleExpired(NotFound):
    """The time until which a published bundle may be used has passed."""

    code = "bundle-expired"


class RotationNotFound(NotFound):
    """Nothing rotates the secret."""

    code = "rotation-not-found"


# --- 4 and 5: identity and policy -------------------------------------------------------------------------------------


class NotAuthenticated(SecurecfgError):
    """Nobody says who is asking, or the key may not speak for this principal."""

    code = "not-authenticated"
    exit_code = 4


class CredentialRefused(NotAuthenticated):
    """The target of a rotation does not accept a credential."""

    code = "credential-refused"


class BackendLoginRefused(NotAuthenticated):
    """A backend takes the credentials for none: they are missing, wrong or expired."""

    code = "backend-login-refused"


class AccessDenied(SecurecfgError):
    """Policy does not allow this action."""

    code = "denied"
    exit_code = 5


class DeniedByPolicyError(AccessDenied):
    """A policy could not be evaluated, which denies."""

    code = "denied-by-policy-error"


class PrivilegeMissing(AccessDenied):
    """The target of a rotation accepts a credential, which may not do what it is for."""

    code = "privilege-missing"


class BackendDenied(AccessDenied):
    """A backend does not let these credentials do this."""

    code = "backend-denied"


class SignaturesMissing(AccessDenied):
    """Too few administrators have signed."""

    code = "signatures-missing"


# --- 6: conflict ------------------------------------------------------------------------------------------------------


class Conflict(SecurecfgError):
    """The state is not the one that the call expects."""

    code = "conflict"
    exit_code = 6


class PathMounted(Conflict):
    """A store of somebody else is mounted where the vault itself was to be used."""

    code = "path-mounted"


class StaleWrite(Conflict):
    """`expect` does not equal the newest version."""

    code = "stale-write"


class HeadMoved(Conflict):
    """Another writer published first: the head row is not the expected one, and nothing was written."""

    code = "head-moved"


class AlreadyExists(Conflict):
    """What should be created is there already."""

    code = "already-exists"


class ConfusablePath(Conflict):
    """A new path looks like one that exists.

    Attributes:
        alike: The one that exists.
    """

    code = "confusable-path"
    alike: str = ""


class LastSlot(Conflict):
    """The last usable unlock slot cannot be removed."""

    code = "last-slot"


class EpochInUse(Conflict):
    """A key cannot be forgotten: it is in use, or something is sealed under it."""

    code = "epoch-in-use"


class UndoUnavailable(Conflict):
    """There is nothing to undo, or it was confirmed, or the files have changed since."""

    code = "undo-unavailable"


class CandidateRejected(Conflict):
    """The target of a rotation will not have a new credential; another one may do."""

    code = "candidate-rejected"


class RotationFailed(Conflict):
    """A rotation has come to a point from where only a person can lead it on."""

    code = "rotation-failed"


class RotationBusy(Conflict):
    """Another process is at work on a rotation, or has just taken it over."""

    code = "rotation-busy"


class BackendRefused(Conflict):
    """A backend refuses what was asked, for a reason that is none of the others."""

    code = "backend-refused"


class CheckFailed(Conflict):
    """What was checked is not as it should be: a policy fails its cases, a file is not in its canonical form."""

    code = "check-failed"


# --- 7: sealed --------------------------------------------------------------------------------------------------------


class Sealed(SecurecfgError):
    """The vault cannot be opened with what was given."""

    code = "sealed"
    exit_code = 7


class WrongKey(Sealed):
    """No unlock slot opens with this key; a damaged slot looks the same."""

    code = "wrong-key"


class ScopeSealed(Sealed):
    """The key that opened the vault was not granted this part of it."""

    code = "scope-sealed"


class SlotRemoved(Sealed):
    """The unlock slot that this process opened the vault with was removed, and the keys were changed since."""

    code = "slot-removed"


class KeyProviderRefused(Sealed):
    """A key provider refuses, for instance a key file that others can read."""

    code = "key-provider-refused"


class KeyAccessDenied(KeyProviderRefused):
    """Whoever holds the key does not let the caller use it."""

    code = "key-access-denied"


class PinIncorrect(KeyAccessDenied):
    """A token does not accept the PIN, or accepts none any more."""

    code = "pin-incorrect"


class KeyDisabled(KeyProviderRefused):
    """The key exists but is switched off, or waits for its deletion."""

    code = "key-disabled"


class KeyMissing(KeyProviderRefused):
    """Whoever should hold the key knows no such key: it was deleted, or has another name."""

    code = "key-missing"


class ShareRefused(KeyProviderRefused):
    """A share of a key was altered, or those given are too few, the same or of different sets."""

    code = "share-refused"


# --- 8: integrity -----------------------------------------------------------------------------------------------------


class IntegrityError(SecurecfgError):
    """Something was altered, removed, swapped or replayed."""

    code = "integrity"
    exit_code = 8


class NotAVault(IntegrityError):
    """The file is not a vault, or its outermost structure is damaged."""

    code = "not-a-vault"


class Tampered(IntegrityError):
    """A row does not match the authenticated state."""

    code = "tampered"


class RollbackSuspected(IntegrityError):
    """The vault is older than, or not a continuation of, the state last recorded outside it."""

    code = "rollback-suspected"


class AnchorMissing(IntegrityError):
    """An anchor is required and there is none."""

    code = "anchor-missing"


class LogTampered(IntegrityError):
    """A record of the log, or what vouches for it, was altered.

    Attributes:
        index: The first record that is wrong, from 0, or None where no single record can be named.
    """

    code = "log-tampered"

    def __init__(self, message: str, *, index: int | None = None, hint: str = "") -> None:
        """Keep the index for callers that show it."""
        super().__init__(message, hint=hint)
        self.index = index


class LogTruncated(IntegrityError):
    """Records are missing at the end of the log."""

    code = "log-truncated"


class LogStale(IntegrityError):
    """The newest checkpoint is older than the age that was asked for."""

    code = "log-stale"


class NotABackup(IntegrityError):
    """A file is not a part of a backup."""

    code = "not-a-backup"


class BackupTruncated(IntegrityError):
    """A part of a backup ends before it is whole."""

    code = "backup-truncated"


class BackupAltered(IntegrityError):
    """A part of a backup is not as it was made."""

    code = "backup-altered"


class BackupChainBroken(IntegrityError):
    """A part of a backup is missing, or belongs to another chain."""

    code = "backup-chain-broken"


class NotABundle(IntegrityError):
    """The file is not a bundle, or does not have the layout of one."""

    code = "not-a-bundle"


class BundleChainBroken(IntegrityError):
    """A bundle that another one builds on is missing, or is another one."""

    code = "bundle-chain-broken"


class IssuerUnknown(IntegrityError):
    """Nothing says which vault a bundle must come from, and that cannot be recorded here either."""

    code = "issuer-unknown"


class SignatureInvalid(IntegrityError):
    """A signature is missing, wrong, or not by a trusted signer."""

    code = "signature-invalid"


# --- 9: unavailable ---------------------------------------------------------------------------------------------------


class Unavailable(SecurecfgError):
    """Something needed cannot be reached now; trying again later may help.

    Attributes:
        retry_after_s: When to come back, in seconds, where who is asked says so; 0 otherwise.
    """

    code = "unavailable"
    exit_code = 9
    retry_after_s: float = 0.0


class CommitUnknown(Unavailable):
    """The store failed while committing: the change may or may not be durable.

    Attributes:
        request_id: What `Vault.resolve` looks up after the vault is opened again, 32 hexadecimal digits.
    """

    code = "commit-unknown"

    def __init__(self, message: str, *, request_id: str = "", hint: str = "") -> None:
        """Keep the request id."""
        super().__init__(message, hint=hint)
        self.request_id = request_id


class AuditUnavailable(Unavailable):
    """The log could not be written, so the access did not happen."""

    code = "audit-unavailable"


class StoreBusy(Unavailable):
    """Another writer kept the store locked beyond the time limit."""

    code = "store-busy"


class StoreFailed(Unavailable):
    """The store reported an error: an I/O failure, a full disk, a lost connection."""

    code = "store-failed"


class DestroyPending(Unavailable):
    """Bytes of what was destroyed may still lie in the write-ahead log; the next opener finishes."""

    code = "destroy-pending"


class KeyProviderUnavailable(Unavailable):
    """A key provider cannot be reached."""

    code = "key-provider-unavailable"


class TokenMissing(KeyProviderUnavailable):
    """The token that a key URI names is not there, or went away."""

    code = "token-missing"


class TargetUnavailable(Unavailable):
    """The target of a rotation cannot be reached, or it is unknown what became of a call."""

    code = "target-unavailable"


class RotationWaits(Unavailable):
    """A rotation cannot be led on now, and goes on later by itself."""

    code = "rotation-waits"


class BackendUnavailable(Unavailable):
    """A backend cannot be reached, is too busy, or gives no answer that makes sense."""

    code = "backend-unavailable"


class BackendNotReached(BackendUnavailable):
    """A request did not arrive at a backend, or was refused before it was taken: nothing was changed."""

    code = "backend-not-reached"


# --- 10: unsupported --------------------------------------------------------------------------------------------------


class Unsupported(SecurecfgError):
    """This build, store or platform cannot do what was asked."""

    code = "unsupported"
    exit_code = 10


class UnsupportedFormat(Unsupported):
    """The vault was written by a version with a newer format."""

    code = "unsupported-format"


class UnsupportedFileSystem(Unsupported):
    """The file lies on a network file system, where a vault must not be written."""

    code = "unsupported-file-system"


class ExtraMissing(Unsupported):
    """An optional package, or a program of its vendor, is needed and not installed."""

    code = "extra-missing"


class ModuleMissing(Unsupported):
    """The PKCS#11 module that a key URI names is not there or cannot be loaded."""

    code = "module-missing"
