"""`shamir:` - a key of which several people hold a share each, and some of them together the whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from securecfg.errors import InvalidKeyUri, SettingMissing, ShareRefused
from securecfg.keys.kek import open_under_kek, parse_params, seal_under_kek, wrong_key
from securecfg.keys.once import once
from securecfg.keys.secret_input import has_parameter
from securecfg.keys.shares import Share, combine_shares, parse_share, read_share, verify_distinct
from securecfg.keys.slots import KIND_SHAMIR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.keys.provider import Ask, KeyUri, WrapContext

_TRIES = 3


class ShamirProvider:
    """Puts shares together when a slot is made or tried.

    Args:
        load: Returns the shares: at least as many as are needed, in any order.
    """

    scheme: Final = "shamir"
    kind: Final = KIND_SHAMIR

    def __init__(self, load: Callable[[], Sequence[Share]]) -> None:
        """Load nothing yet."""
        self._load = load

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the key of which the shares are.

        Raises:
            ShareRefused: A share was altered, or they are too few or do not belong together.
            FileMissing, KeyProviderRefused: A file is not there, or others can read it.
            SettingMissing: There is nobody to ask for them.
        """
        shares = self._load()
        kek = combine_shares(shares)
        return seal_under_kek(kek, self.kind, _params(shares[0]), key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under the key of which the shares are.

        Raises:
            WrongKey: The shares, the bytes or the context are other ones.
            ShareRefused, FileMissing, KeyProviderRefused, SettingMissing: As for `wrap`.
        """
        params = parse_params(wrapped)
        shares = self._load()
        kek = combine_shares(shares)
        if params != _params(shares[0]):
            raise wrong_key()
        return open_under_kek(kek, self.kind, wrapped, context)


def _params(share: Share) -> bytes:
    return bytes((share.threshold, share.total)) + share.set_id


def from_uri(uri: KeyUri, ask: Ask | None) -> ShamirProvider:
    """Return the provider for `shamir:FILE,FILE,...`, or for `shamir:`, which asks for one share after the other.

    Raises:
        InvalidKeyUri: A name between two commas is empty, or a parameter stands behind one.
    """
    if not uri.rest:
        return ShamirProvider(once(lambda: ask_for_shares(ask)))
    names = uri.rest.split(",")
    if "" in names or "\x00" in uri.rest or has_parameter(uri.rest):
        message = "a `shamir:` key names files with one share each"
        raise InvalidKeyUri(message, hint="for instance `shamir:share-1.txt,share-4.txt`, or `shamir:` to be asked")
    paths = [os.path.expanduser(name) for name in names]  # noqa: PTH111 - `Path.expanduser` fails for an unknown user
    return ShamirProvider(lambda: [read_share(path) for path in paths])


def ask_for_shares(ask: Ask | None) -> Sequence[Share]:
    """Return as many shares as the first one says are needed. One that is mistyped may be given again.

    Raises:
        SettingMissing: There is nobody to ask.
        ShareRefused: A share was wrong every time.
    """
    if ask is None:
        message = "shares of the key are needed and there is nobody to ask"
        raise SettingMissing(message, hint="name the files that they are in: `shamir:FILE,FILE,...`")
    shares = [ask_for_share(ask, "share 1", ())]
    while len(shares) < shares[0].threshold:
        shares.append(ask_for_share(ask, f"share {len(shares) + 1} of {shares[0].threshold}", shares))
    return shares


def ask_for_share(ask: Ask, what: str, others: Sequence[Share]) -> Share:
    """Return a share of the set of the others; for one slip they need not come again.

    Raises:
        ShareRefused: The share was wrong every time.
        SettingMissing: There is nobody to ask.
    """
    prompt = what
    for _ in range(_TRIES - 1):
        try:
            return _ask_once(ask, prompt, others)
        except ShareRefused as error:
            prompt = f"{error.message}; {what}"
    return _ask_once(ask, prompt, others)


def _ask_once(ask: Ask, prompt: str, others: Sequence[Share]) -> Share:
    # The answer is not kept in a variable, which a traceback might show.
    share = parse_share(ask(prompt).strip())
    verify_distinct([*others, share])
    return share
