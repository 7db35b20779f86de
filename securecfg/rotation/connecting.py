"""Logs in with a secret that is being rotated: once more where another version of it is the one that is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from securecfg.errors import SecretDestroyed, SecretExpired, SecretNotFound, UsageError, VersionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.reading import At
    from securecfg.vault.references import SecretRef
    from securecfg.vault.values import SecretVersion, Value

T = TypeVar("T")

_GONE = (SecretNotFound, VersionNotFound, SecretDestroyed, SecretExpired)


def with_retry_on_auth_failure(
    ref: SecretRef, connect: Callable[[Value], T], *, is_auth_failure: Callable[[Exception], bool]
) -> T:
    """Return what a function returns that logs in with a secret, which may be rotated in the same moment.

    It is called with the current version; where the login is refused, with the current one as it is by then, if that is
    another, and with `previous` while there is one: with each version once. Nothing is waited for.

    Args:
        ref: A handle that follows the secret, or one of its fields.
        connect: Logs in. It gets the `Secret`, or the mapping of fields to them that the version has, and reveals it.
        is_auth_failure: Whether an error that it raised says that the login was refused. A network that fails, or a
            login that may do nothing, is none: the same would happen with any other version.

    Raises:
        UsageError: The handle is on one version.
        Exception: What `connect` raised last, without the frames in which it held the value.
        As for `Vault.read`: The current version cannot be read.
    """
    if ref.at is not None:
        message = f"the handle on `{ref.path}` is on version `{ref.at}`, and follows no rotation"
        raise UsageError(message, hint="give `vault.ref(path)` without `at`")
    tried: set[object] = set()
    refusal: Exception | None = None
    for at in (None, None, "previous"):
        version = _read(ref, at, refusal)
        if version is None or version.version in tried:
            continue
        tried.add(version.version)
        value = version.field(ref.field) if ref.field else version.value
        try:
            return connect(value)
        except Exception as error:  # noqa: BLE001 - of any library; it is raised again
            _forget_frames(error)
            refusal = error
            if not is_auth_failure(error):
                break
    assert refusal is not None  # noqa: S101 - the first version is tried, or cannot be read
    raise refusal


def _read(ref: SecretRef, at: At, refusal: Exception | None) -> SecretVersion | None:
    """Return a version, None where there is none to try after a refusal."""
    try:
        return ref.on(at).read()
    except _GONE:
        if refusal is None:
            raise
        return None


def _forget_frames(error: BaseException) -> None:
    """Drop the frames of an error and of those that led to it: their variables hold what was revealed."""
    waiting, known = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        each.__traceback__ = None
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
