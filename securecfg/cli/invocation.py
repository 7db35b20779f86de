"""One call of a command: its common flags, and what every command does with them."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from securecfg.errors import ConfirmationRequired
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from securecfg.keys import Ask, KeyProvider
    from securecfg.vault import Vault
    from securecfg.vault.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

_ASKING = "passphrase:"


class Invocation(NamedTuple):
    """The common flags of one call.

    Attributes:
        vault: `--vault`, or None.
        key: `--key`, or None.
        principal: `--as`, or None.
        is_json: `--json`: one object on standard output.
        is_silent: `--no-input`: nobody is asked.
        is_confirmed: `--yes`: what would be asked for confirmation is confirmed.
        audit: `--audit-sink`, or None: where the records of a bundle's reads go.
        issuer: `--issuer`, or None: whom a bundle must come from.
        reason: `--reason`, or empty: why, for the log.
    """

    vault: str | None
    key: str | None
    principal: str | None
    is_json: bool
    is_silent: bool
    is_confirmed: bool
    audit: str | None = None
    issuer: str | None = None
    reason: str = ""

    @property
    def ask(self) -> Ask | None:
        """Who asks a person for a passphrase, or None where nobody may be asked."""
        from securecfg.cli.prompts import ask_hidden, is_somebody_there

        return None if self.is_silent or not is_somebody_there() else ask_hidden

    @contextmanager
    def open(self, *, principal: str | None = None, key: KeyProvider | None = None) -> Iterator[Vault]:
        """Open the vault that flags, variables and settings name, and close it at the end.

        Args:
            principal: On whose behalf where neither `--as` nor SECURECFG_AS says so; None takes the settings' choice.
                A key that proves whose it is decides itself.
            key: What opens it; None takes what is named, or what was remembered of it.

        Raises:
            As for `Vault.open`.
        """
        from securecfg.vault import Vault

        settings = self.settings(principal=principal)
        vault = Vault.open(
            settings.vault,
            key=self._provider(settings.key) if key is None else key,
            principal=settings.principal,
            cache_values=0,
            audit=self.audit,
            issuer=self.issuer,
            reason=self.reason,
        )
        with vault:
            yield vault

    def settings(self, *, principal: str | None = None) -> Settings:
        """Return which vault, which key and on whose behalf: from flags, variables and the settings file.

        Args:
            principal: As for `open`.

        Raises:
            SettingMissing: No vault or no key is named.
            ConfigSyntaxError, ConfigTypeError: The settings file is wrong.
        """
        from securecfg.vault.settings import find_settings, proves_principal

        settings = find_settings(self.vault, self.key, self.principal)
        if self.principal or principal is None or proves_principal(settings.key):
            return settings
        return settings._replace(principal=principal)

    def provider(self) -> KeyProvider:
        """Return what opens the vault: the key that is named, or what `unlock` keeps of its passphrase.

        Raises:
            SettingMissing: No vault or no key is named.
            InvalidKeyUri, ExtraMissing: The key URI is wrong.
        """
        return self._provider(self.settings().key)

    def _provider(self, key: str | KeyProvider) -> KeyProvider:
        from securecfg.keys import open_provider

        # Always a provider: `Vault.open` would ask on the terminal for what nobody here may be asked.
        provider = open_provider(key, ask=self.ask)
        if not isinstance(key, str) or not _asks(key):
            return provider
        from securecfg.cli.remembered import Recalling, memories

        return Recalling(provider, memories())

    def vault_path(self) -> Path:
        """Return the vault that flags, variables and settings name, whether or not a key is named too.

        Raises:
            SettingMissing: None is named.
        """
        from pathlib import Path

        from securecfg.vault.settings import find_settings

        return Path(find_settings(self.vault, self.key or "-", self.principal).vault)

    def confirm(self, question: str) -> None:
        """Ask before something that cannot be undone. Nothing is asked with `--yes`.

        Call it after the policy was asked, so that nobody confirms what they may not do.

        Raises:
            ConfirmationRequired: The answer is no, or nobody can be asked.
        """
        from securecfg.cli.prompts import ask_yes, is_somebody_there

        if self.is_confirmed:
            return
        if self.is_silent or not is_somebody_there():
            message = "this cannot be undone and was not confirmed"
            raise ConfirmationRequired(message, hint="give `--yes` if you mean it")
        if not ask_yes(question):
            message = "nothing was changed"
            raise ConfirmationRequired(message, hint="answer `y` to go on")

    # --- output ------------------------------------------------------------------------------------------------------

    def emit(self, result: dict[str, Any], *lines: str) -> None:
        """Print the result: the object with `--json`, else the lines.

        Raises:
            StoreFailed: Standard output cannot be written.
        """
        from securecfg.cli.output import write_json, write_lines

        if self.is_json:
            write_json(result)
        else:
            write_lines(lines)

    def emit_table(
        self,
        result: dict[str, Any],
        columns: Sequence[str],
        rows: Sequence[tuple[str, ...]],
        *,
        shorten: Sequence[str] = (),
    ) -> None:
        """Print the result: the object with `--json`, else the rows of a table.

        Args:
            result: The object.
            columns: The heading of the table.
            rows: Its cells.
            shorten: The names of columns that may be shortened on a terminal, what matters least first.

        Raises:
            StoreFailed: Standard output cannot be written.
        """
        from securecfg.cli.output import write_json
        from securecfg.cli.tables import write_table

        if self.is_json:
            write_json(result)
        else:
            write_table(columns, rows, shorten=shorten)

    def note(self, text: str) -> None:
        """Tell a person something that is not the result, on standard error."""
        click.echo(text, err=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show how far a long task is, on a terminal only. Yields a function of what is done and what there is."""
        from securecfg.cli.output import draw_progress

        if self.is_json or not sys.stderr.isatty():
            yield lambda _done, _total: None
            return
        with draw_progress(what) as advance:
            yield advance

    @contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Show what a command does or waits for, on a terminal only. Yields a function of the text."""
        from securecfg.cli.output import draw_status

        if self.is_json or not sys.stderr.isatty():
            yield lambda _text: None
            return
        with draw_status() as show:
            yield show


def _asks(key: str) -> bool:
    """Return whether a key asks for a passphrase, which `unlock` may have remembered."""
    return key == _ASKING or (key.startswith("passphrase+file:") and "?" not in key)


_FLAGS = (
    click.option("--vault", metavar="PATH", help="The vault; else SECURECFG_VAULT or the project's settings."),
    click.option("--key", metavar="URI", help="What opens it; else SECURECFG_KEY or the project's settings."),
    click.option("--as", "principal", metavar="PRINCIPAL", help="On whose behalf: user:NAME or svc:NAME."),
    click.option("--json", "is_json", is_flag=True, help="Print one JSON object, failures too."),
    click.option("--no-input", "is_silent", is_flag=True, help="Never ask; what cannot be undone then needs --yes."),
    click.option("--yes", "is_confirmed", is_flag=True, help="Confirm what would be asked."),
    click.option("--audit-sink", "audit", metavar="URI", help="Where reads of a bundle are recorded: file:PATH."),
    click.option("--issuer", metavar="VKEY", help="The verifier key of the vault that a bundle must come from."),
    click.option("--reason", default="", metavar="TEXT", help="Why, for the log; a break-glass identity asks for it."),
)


def common_flags(function: Callable[Concatenate[Invocation, P], R]) -> Callable[..., R]:
    """Give a command the common flags; they reach it as its first argument."""

    @functools.wraps(function)
    def call(**given: Any) -> R:  # noqa: ANN401 - click passes what the options of the command are
        names = ("vault", "key", "principal", "is_json", "is_silent", "is_confirmed", "audit", "issuer", "reason")
        invocation = Invocation(**{name: given.pop(name) for name in names})
        return function(invocation, **given)  # type: ignore[call-arg]  # checked by click, by name

    for flag in reversed(_FLAGS):
        flag(call)
    return call
