"""How a provider is called: its time limit, further attempts, and no exception but those that it promised.

This is the caller's part, so that no plug-in can forget it. A local provider is called here and now: it may ask a
person, who takes his time. A remote one is asked in a thread of its own, which is left behind when the time is up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from securecfg.crypto import KEY_BYTES
from securecfg.errors import KeyProviderRefused, KeyProviderUnavailable, SecurecfgError, WrongKey
from securecfg.keys.provider import is_remote
from securecfg.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from securecfg.keys.provider import KeyProvider, WrapContext
    from securecfg.patience import Patience

T = TypeVar("T")


def call_wrap(provider: KeyProvider, key: bytes, context: WrapContext, patience: Patience = PATIENCE) -> bytes:
    """Return what a provider makes of a key.

    Raises:
        KeyProviderUnavailable: The service cannot be reached or does not answer in time, or the provider broke down.
        KeyProviderRefused: It refuses, and is not asked again.
        SettingMissing: It has nobody to ask.
    """
    return _call(provider, object(), lambda: provider.wrap(key, context), patience)


def call_unwrap(provider: KeyProvider, wrapped: bytes, context: WrapContext, patience: Patience = PATIENCE) -> bytes:
    """Return the key that a provider unwraps. Threads that ask for the same at the same time share one answer.

    Raises:
        WrongKey: The provider holds another key, or the bytes or the context are not those that were wrapped.
        KeyProviderUnavailable: The service cannot be reached or does not answer in time, or the provider broke down.
        KeyProviderRefused: It refuses, and is not asked again.
        SettingMissing: It has nobody to ask.
    """
    return _call(provider, (provider, wrapped, context), lambda: _key_of(provider.unwrap(wrapped, context)), patience)


def gravest(errors: Iterable[SecurecfgError]) -> SecurecfgError:
    """Return the error that is told where several keys or slots failed, each for its own reason.

    What may pass is said before what was refused, that before what is lost, and all before what is another key.
    """

    def rank(error: SecurecfgError) -> int:
        if isinstance(error, WrongKey):
            return 3
        return next(
            (
                place
                for place, kind in enumerate((KeyProviderUnavailable, KeyProviderRefused))
                if isinstance(error, kind)
            ),
            2,
        )

    return min(errors, key=rank)


def _key_of(answer: bytes) -> bytes:
    if isinstance(answer, bytes) and len(answer) == KEY_BYTES:
        return answer
    del answer  # a traceback that shows locals must not show it
    message = "no key"
    raise TypeError(message)  # the provider broke its promise


def _call(provider: KeyProvider, question: object, call: Callable[[], bytes], patience: Patience) -> bytes:
    if not is_remote(provider):
        return guarded(provider, call)
    from securecfg.keys.flights import fly

    return fly(provider, question, call, patience)


def guarded(provider: KeyProvider, call: Callable[[], T]) -> T:
    """Return what a call into a provider returns, and let no exception out but ours.

    Raises:
        SecurecfgError: As the provider promised, or `KeyProviderUnavailable` where it broke its promise.
    """
    try:
        return call()
    except SecurecfgError:
        raise
    except Exception:  # noqa: BLE001 - a plug-in may raise anything, and its text may quote anything
        message = f"the provider of `{provider.scheme}:` keys broke down"
        raise KeyProviderUnavailable(message, hint="this is a mistake in the provider; please report it") from None
