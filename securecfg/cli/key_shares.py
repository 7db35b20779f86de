"""`securecfg key split` and `combine`: a key of which several people hold a share each."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Number
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import AlreadyExists, CommitUnknown, SecurecfgError, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.keys import Share


@click.command(
    cls=Verb,
    examples=(
        "securecfg key split --threshold 3 --shares 5 --out shares",
        "securecfg key split --threshold 2 --shares 3 --out shares --label board --dry-run",
    ),
)
@click.option("--threshold", type=Number(), required=True, metavar="K", help="How many shares open the vault.")
@click.option("--shares", "count", type=Number(), required=True, metavar="N", help="How many shares there are.")
@click.option("--out", required=True, type=click.Path(), metavar="DIR", help="A folder to make, for one file a share.")
@click.option("--label", default="", metavar="TEXT", help="What to call the slot.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common_flags
def split(invocation: Invocation, *, threshold: int, count: int, out: str, label: str, dry_run: bool) -> None:
    """Add a key of which N people hold a share each, and any K of them together open the vault.

    Each file holds one share in one line. Give every share to another person and delete the folder: whoever has K of
    them has the key. Nothing is left behind where this fails. Where it is interrupted the files stay, as the slot may
    be there: `securecfg key list` shows it.
    """
    from securecfg.keys import ShamirProvider, generate_shares
    from securecfg.vault.keys.slots import Slots

    with invocation.open() as vault:
        vault.authority.require("key.manage", "")
        shares = generate_shares(threshold, count)
        folder = Path(out)
        if dry_run:
            refuse_existing(folder)
            result: dict[str, object] = {"threshold": threshold, "shares": count, "out": out, "is_done": False}
            invocation.emit(result, f"would add  a slot, {threshold} of {count}   would write  {count} files to {out}")
            return
        with _written(folder, shares) as files:
            provider = ShamirProvider(lambda: shares[:threshold])
            number = Slots(vault.authority).add(provider, label=label)
    result = {
        "slot": number,
        "kind": provider.scheme,
        "label": label,
        "threshold": threshold,
        "shares": count,
        "files": [str(path) for path in files],
    }
    invocation.emit(
        result,
        f"added    slot {number}  {provider.scheme}, {threshold} of {count}",
        f"written  {count} files to {out} (mode 0600); give each to another person, then delete the folder",
    )


@click.command(
    cls=Verb,
    examples=("securecfg key combine share-1.txt share-2.txt share-5.txt", "securecfg key combine"),
)
@click.argument("files", nargs=-1, type=click.Path())
@common_flags
def combine(invocation: Invocation, *, files: tuple[str, ...]) -> None:
    """Check that shares belong together and open a slot. Without files it asks for one share after the other.

    No other key is needed, and none is printed. `--key shamir:FILE,FILE,...` opens the vault with them.
    """
    from securecfg.keys import ShamirProvider
    from securecfg.keys.providers.shamir import ask_for_shares
    from securecfg.keys.shares import combine_shares, read_share
    from securecfg.vault.keys.slots import find_slot

    shares = [read_share(file) for file in files] if files else ask_for_shares(invocation.ask)
    combine_shares(shares)
    number = find_slot(invocation.vault_path(), ShamirProvider(lambda: shares))
    numbers = sorted(share.number for share in shares)
    threshold, total = shares[0].threshold, shares[0].total
    invocation.emit(
        {"slot": number, "threshold": threshold, "shares": total, "given": numbers},
        f"opens  slot {number}   shares  {', '.join(map(str, numbers))} of {total}, {threshold} needed",
    )


@contextmanager
def _written(folder: Path, shares: Sequence[Share]) -> Iterator[list[Path]]:
    """Write one file for each share into a new folder; take all back where what follows was certainly not done."""
    from securecfg.files import create_private
    from securecfg.keys import format_share

    width = len(str(len(shares)))
    made: list[Path] = []
    make_folder(folder)
    try:
        for share in shares:
            path = folder / f"share-{share.number:0{width}}.txt"
            create_private(path, f"{format_share(share)}\n".encode())
            made.append(path)
    except BaseException:  # nothing was done with them yet, whatever it is
        _take_back(folder, made)
        raise
    try:
        yield made
    except CommitUnknown as error:
        # The slot may be there, and then these are the only shares of its key.
        error.hint = f"keep `{folder}` until `securecfg key list` has shown whether the slot was added; {error.hint}"
        raise
    except SecurecfgError:
        # Whatever else ends it, such as Ctrl-C, may have come after the commit: the files stay.
        _take_back(folder, made)
        raise


def _take_back(folder: Path, made: Sequence[Path]) -> None:
    for path in made:
        path.unlink()
    folder.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner reaches, durably.

    Raises:
        AlreadyExists: Something is there.
        StoreFailed: The file system refuses.
    """
    from securecfg.files import sync_directory

    refuse_existing(folder)
    try:
        folder.mkdir(mode=0o700)
        sync_directory(folder.parent)
    except OSError as error:
        message = f"cannot create `{folder}`: {error.strerror}"
        raise StoreFailed(message) from None


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that is there already.

    Raises:
        AlreadyExists: It is.
    """
    if folder.exists() or folder.is_symlink():
        message = f"`{folder}` exists already"
        raise AlreadyExists(message, hint="name a folder that is not there yet; nothing is ever written over")
