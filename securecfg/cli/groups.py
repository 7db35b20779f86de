"""Groups and commands: loaded when they are used, and never repeating an argument that may be a secret."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Verb(click.Command):
    """A command whose surplus arguments are an error that does not show them.

    Args:
        examples: Command lines that its help shows.
        surplus_hint: What to do instead of giving more arguments.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        examples: Sequence[str] = (),
        surplus_hint: str = "",
        **kwargs: Any,  # noqa: ANN401 - click's own
    ) -> None:
        """Take click's arguments."""
        super().__init__(*args, **kwargs)
        self.examples = examples
        self._surplus_hint = surplus_hint

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples."""
        _write_examples(formatter, self.examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command's arguments.

        Raises:
            UsageError: There are too many.
        """
        allowed, ctx.allow_extra_args = ctx.allow_extra_args, True
        rest = super().parse_args(ctx, args)
        ctx.allow_extra_args = allowed
        if rest and not allowed and not ctx.resilient_parsing:
            message = f"`{ctx.command_path}` got more arguments than it takes"
            raise UsageError(message, hint=self._surplus_hint or f"`{ctx.command_path} --help` shows what it takes")
        return rest


class Noun(click.Group):
    """A group of verbs, listed in the order in which they are defined."""

    command_class = Verb

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(self.commands)


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used.

    Args:
        commands_at: For each name `module:attribute` and one line of help.
        examples: Command lines that its help shows.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        commands_at: Mapping[str, tuple[str, str]],
        examples: Sequence[str] = (),
        **kwargs: Any,  # noqa: ANN401 - click's own
    ) -> None:
        """Take click's arguments."""
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at
        self.examples = examples

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples."""
        _write_examples(formatter, self.examples)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self._commands_at)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None."""
        if cmd_name not in self._commands_at:
            return None
        module, attribute = self._commands_at[cmd_name][0].split(":")
        return cast("click.Command", getattr(import_module(module), attribute))

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._commands_at.items()])


def _write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
