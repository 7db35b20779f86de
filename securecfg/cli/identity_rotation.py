"""The way of an identity from one key pair to the next: opened, signed for, and written so that none is lost."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import AlreadyExists, Conflict, KeyProviderRefused, SecurecfgError, StoreFailed, UsageError
from securecfg.files import create_private, create_public, write_atomically
from securecfg.keys import KeyUri, open_provider
from securecfg.keys.identity import (
    PREVIOUS_MAX,
    UNPROTECTED,
    IdentityFile,
    PrivateHalf,
    compose_identity_file,
    generate_identity,
    open_seed,
    protect_seed,
    read_identity_file,
    sign_succession,
)
from securecfg.keys.secret_input import split_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.crypto import KeyBytes
    from securecfg.keys import Ask, Identity, KeyProvider
    from securecfg.keys.identity import Previous


class Rotation(NamedTuple):
    """A new key pair that the old one has signed for; nothing is written yet.

    Attributes:
        path: The file of the identity.
        old: What it holds.
        provider: What protects the old private half, or None.
        successor: The public half of the new key pair.
        seed: Its private half.
        previous: The former key pairs, the one of now first.
    """

    path: str
    old: IdentityFile
    provider: KeyProvider | None
    successor: Identity
    seed: KeyBytes
    previous: tuple[Previous, ...]

    @property
    def former(self) -> Identity:
        """The public half of the old key pair."""
        return self.old.identity

    @classmethod
    def open(cls, file: str, ask: Ask | None) -> Rotation:
        """Open the private half in a file, and have it and a new key pair sign for each other.

        Args:
            file: The path, with `?env=NAME` or `?fd=N` after it for the passphrase.
            ask: Asks a person for it instead.

        Raises:
            FileMissing, KeyProviderRefused, KeyProviderUnavailable, SettingMissing, WrongKey: It cannot be opened.
        """
        path, source = split_source(KeyUri("identity", file))
        old = read_identity_file(path)
        former, private = old.identity, old.private
        if private is None:
            message = f"`{path}` holds the public half of an identity only"
            raise KeyProviderRefused(message, hint="its owner replaces it, who has the private half")
        provider = None
        if private.protection != UNPROTECTED:
            provider = open_provider(private.protection + source, ask=ask)
        own = private.content if provider is None else open_seed(former, private, provider)
        successor, seed = generate_identity(former.name)
        previous = (sign_succession(former.name, own, seed), *old.previous)[:PREVIOUS_MAX]
        return cls(path, old, provider, successor, seed, previous)

    def protected(self) -> PrivateHalf:
        """Return the new private half under the same key as the old one.

        Raises:
            KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
        """
        old = self.old.private
        if self.provider is None or old is None:
            return PrivateHalf(UNPROTECTED, self.seed)
        return protect_seed(self.successor, self.seed, self.provider, old.protection)

    def write(self, private: PrivateHalf, public: str | None, keep: str | None) -> None:
        """Put the new file in the place of the old one, after the old one was kept where that is asked for.

        Args:
            private: The new private half.
            public: A new file for the public half, or None.
            keep: A new file for what the old one holds, or None.

        The private half comes before the public one: nobody may hold one of which there is no private half.

        Raises:
            UsageError: Two of the files are the same.
            Conflict: The file holds something else than when it was opened.
            InvalidKeyUri: The URI of the key that protects the new private half does not fit into a file.
            AlreadyExists: There is something where a new file would be.
            StoreFailed: The file system refuses. The file holds the old key pair or the new one, whole.
        """
        paths = [Path(path).absolute() for path in (self.path, public, keep) if path is not None]
        if len(set(paths)) < len(paths):
            message = "two of the files have the same name"
            raise UsageError(message, hint="the old private half, the new one and the public half lie in three files")
        made = IdentityFile(self.successor, private, self.previous)
        compose_identity_file(made)  # which refuses; in a variable a traceback that shows locals would show it
        with _alone_with(self.path):
            if read_identity_file(self.path) != self.old:
                message = f"`{self.path}` was changed meanwhile"
                raise Conflict(message, hint="nothing was written; look at `securecfg identity show`, and try again")
            if public is not None:
                _refuse_unwritable(public)
            if keep is not None:
                create_private(keep, compose_identity_file(self.old))
            # Should this fail, what was kept stays: whether the old file is still there is not known.
            write_atomically(self.path, compose_identity_file(made))
        if public is None:
            return
        try:
            create_public(public, compose_identity_file(made._replace(private=None)))
        except SecurecfgError as error:
            error.hint = f"`{self.path}` has the new key pair: `securecfg identity export` prints its public half"
            raise


@contextmanager
def _alone_with(path: str) -> Iterator[None]:
    """Keep every other rotation of a file out, which would replace what this one has just written.

    The lock is that of the file itself. Who waited for a file that was replaced holds a lock that means nothing; he
    finds other content than he knows, and so does nothing.
    """
    try:
        # A network file system locks only what may be written.
        descriptor = os.open(path, (os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        message = f"cannot lock `{path}`: {error.strerror}"
        raise StoreFailed(message) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _refuse_unwritable(path: str) -> None:
    """Refuse a new file that could not be created, before anything is replaced."""
    target = Path(path)
    if target.exists() or target.is_symlink():
        message = f"`{path}` exists already"
        raise AlreadyExists(message, hint="choose another path; nothing is ever written over")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        message = f"cannot create `{path}`: its folder is not there, or cannot be written"
        raise StoreFailed(message)
