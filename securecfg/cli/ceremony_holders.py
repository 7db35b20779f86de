"""The people of a key ceremony: each is handed a share, or gives it."""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit.transcript import NAME_CHARACTERS_MAX, is_holder_name
from securecfg.errors import CommitUnknown, ConfirmationRequired, SecurecfgError, UsageError
from securecfg.keys import IdentityProvider, format_share, open_provider
from securecfg.keys.keyfile import read_small_file
from securecfg.keys.providers.shamir import ask_for_share
from securecfg.keys.sealed_shares import CHARACTERS_MAX, PREFIX, open_share, parse_sealed_share, seal_share
from securecfg.keys.shares import read_share, verify_distinct

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.cli.stage import Stage
    from securecfg.keys import Ask, Share

_ROW_CHARACTERS = 16
# Before these are the prefix and the set, which are the same for all.
_ROWS_ALIKE = 3
_TRIES = 3


class Invited(NamedTuple):
    """Somebody who takes part.

    Attributes:
        name: What he is called.
        file: Where his share is written to or read from; empty where he reads and types it.
        identity: What his share is sealed to and opened with, or None.
    """

    name: str
    file: str
    identity: IdentityProvider | None

    @property
    def way(self) -> str:
        """How a share comes to him, as the transcript has it."""
        if self.identity is not None:
            return f"identity:{self.identity.read_identity().fingerprint.hex()}"
        return "file" if self.file else "terminal"


def parse_holders(given: Sequence[str], ask: Ask | None) -> tuple[Invited, ...]:
    """Return who takes part, from `NAME`, `NAME=FILE` or `NAME=FILE,identity:PATH`.

    Args:
        given: What was given of each.
        ask: Asks a person for the passphrase of an identity.

    Raises:
        UsageError: A name is not one or is given twice, or two have the same file.
        FileMissing, KeyProviderRefused: The public half of an identity cannot be read.
    """
    holders = []
    for text in given:
        name, _, rest = text.partition("=")
        file, separator, path = rest.partition(",identity:")
        if not is_holder_name(name) or (separator and not path) or ("=" in text and not file):
            message = f"a holder is a name of at most {NAME_CHARACTERS_MAX} printable characters, and perhaps a file"
            raise UsageError(
                message, hint="`--holder NAME`, `--holder NAME=FILE` or `--holder NAME=FILE,identity:PATH`"
            )
        provider = open_provider(f"identity:{path}", ask=ask) if separator else None
        if isinstance(provider, IdentityProvider):
            provider.read_identity()
            holders.append(Invited(name, file, provider))
        else:
            holders.append(Invited(name, file, None))
    names, files = [one.name for one in holders], [Path(one.file).absolute() for one in holders if one.file]
    if len(set(names)) < len(names) or len(set(files)) < len(files):
        message = "two holders have the same name or the same file"
        raise UsageError(message, hint="each is somebody else, with a file of his own")
    return tuple(holders)


# --- handing out ------------------------------------------------------------------------------------------------------


def hand_out(stage: Stage | None, holders: Sequence[Invited], shares: Sequence[Share], *, is_rehearsal: bool) -> None:
    """Show each of those who have no file his share, until he has shown that he has it.

    Args:
        stage: The terminal; None where all have files.
        holders: Who takes part.
        shares: One for each, in their order.
        is_rehearsal: Whether the shares open nothing.

    Raises:
        ConfirmationRequired: Somebody does not have his share right.
        SettingMissing: The terminal was closed.
    """
    for holder, share in zip(holders, shares, strict=True):
        if stage is None or holder.file:
            continue
        stage.call(f"share {share.number} of {share.total} is for {holder.name}", holder.name, share.number)
        with stage.private():
            _hand_to(stage, holder, share, is_rehearsal=is_rehearsal)
        stage.say(f"share {share.number} of {share.total}   {holder.name}   check  {share.check}   confirmed")


def _hand_to(stage: Stage, holder: Invited, share: Share, *, is_rehearsal: bool) -> None:
    # No text of the share is kept in a variable, which a traceback might show.
    for _ in range(_TRIES):
        stage.say(f"{holder.name}: share {share.number} of {share.total}, {share.threshold} are needed", "")
        stage.say(format_share(share), "", "the same in rows, to write it down:", *_numbered(share), "")
        if is_rehearsal:
            stage.say("This is a rehearsal: the share opens nothing.", "")
        stage.wait("when you have it")
        stage.clear()
        if _is_confirmed(stage, share):
            return
        stage.say("that is not what the row says; look again", "")
    message = f"{holder.name} did not confirm share {share.number}"
    raise ConfirmationRequired(message, hint="nothing was changed, and the shares are void; begin again")


def _is_confirmed(stage: Stage, share: Share) -> bool:
    place = _ROWS_ALIKE + secrets.randbelow(len(_rows(share)) - _ROWS_ALIKE)
    answer = stage.ask_hidden(f"row {place + 1} of your share")
    return hmac.compare_digest(answer.strip().encode(), _rows(share)[place].encode())


def _numbered(share: Share) -> Iterator[str]:
    return (f"  {place}  {row}" for place, row in enumerate(_rows(share), start=1))


def _rows(share: Share) -> list[str]:
    text = format_share(share)
    return [text[start : start + _ROW_CHARACTERS] for start in range(0, len(text), _ROW_CHARACTERS)]


def refuse_existing(paths: Sequence[str]) -> None:
    """Refuse new files that are there already or could not be made, before anybody is asked for anything.

    Raises:
        UsageError: Two are the same.
        AlreadyExists: One is there.
        StoreFailed: There is no folder for one, or nothing can be written into it.
    """
    from securecfg.errors import AlreadyExists, StoreFailed

    if len({os.path.realpath(path) for path in paths}) < len(paths):
        message = "two of the new files have the same name"
        raise UsageError(message, hint="the transcript and each share lie in a file of their own")
    for path in paths:
        if not os.access(Path(path).parent, os.W_OK | os.X_OK):
            message = f"cannot create `{path}`: its folder is not there, or cannot be written"
            raise StoreFailed(message, hint="nothing was changed")
        if Path(path).exists() or Path(path).is_symlink():
            message = f"`{path}` exists already"
            raise AlreadyExists(message, hint="choose another path; nothing is ever written over")


@contextmanager
def written(holders: Sequence[Invited], shares: Sequence[Share]) -> Iterator[None]:
    """Write the shares of those who have files; take all back where what follows was certainly not done."""
    from securecfg.files import create_private

    made: list[Path] = []
    try:
        for holder, share in zip(holders, shares, strict=True):
            if holder.file:
                create_private(holder.file, _content(holder, share))
                made.append(Path(holder.file))
    except BaseException:
        _unlink(made)
        raise
    try:
        yield
    except CommitUnknown as error:
        # The slot may be there, and then these are the only shares of its key.
        error.hint = f"keep all shares until `securecfg key list` has shown whether the slot was added; {error.hint}"
        raise
    except SecurecfgError:
        # Whatever else ends it, such as Ctrl-C, may have come after the commit: the files stay.
        _unlink(made)
        raise


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _content(holder: Invited, share: Share) -> bytes:
    text = format_share(share) if holder.identity is None else seal_share(share, holder.identity.read_identity())
    return f"{text}\n".encode()


# --- giving -----------------------------------------------------------------------------------------------------------


def collect(stage: Stage | None, holders: Sequence[Invited]) -> list[Share]:
    """Return the share of each, typed by him or out of his file.

    Raises:
        ShareRefused: A share is none, is given twice or belongs to another set.
        UsageError: An identity is named for a share that is not sealed, or none for one that is.
        FileMissing, KeyProviderRefused: A file or an identity cannot be read.
        SettingMissing: There is nobody to ask.
    """
    shares: list[Share] = []
    for holder in holders:
        share = _read(holder) if holder.file else _ask(stage, holder, shares)
        verify_distinct([*shares, share])
        shares.append(share)
    return shares


def _ask(stage: Stage | None, holder: Invited, others: Sequence[Share]) -> Share:
    if stage is None:
        message = f"nobody can ask {holder.name}"
        raise UsageError(message)
    stage.call(f"the share of {holder.name}", holder.name, len(others) + 1)
    with stage.private():
        share = ask_for_share(stage.ask_hidden, f"share of {holder.name}", others)
    stage.say(f"share {share.number} of {share.total}   {holder.name}   check  {share.check}   given")
    return share


def _read(holder: Invited) -> Share:
    content = read_small_file(holder.file, CHARACTERS_MAX + 1)[0].decode("latin-1")
    is_sealed = content.startswith(PREFIX)
    if is_sealed != (holder.identity is not None):
        del content  # a traceback that shows locals must not show it
        message = f"the share of {holder.name} is {'sealed to an identity' if is_sealed else 'not sealed'}"
        hint = f"`--holder '{holder.name}={holder.file}{',identity:PATH' if is_sealed else ''}'`"
        raise UsageError(message, hint=hint)
    if holder.identity is None:
        del content  # the same
        return read_share(holder.file)
    return open_share(parse_sealed_share(content.removesuffix("\n")), holder.identity)
