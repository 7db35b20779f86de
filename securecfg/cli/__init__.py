"""The command line: a noun, then a verb. Nothing heavy is imported before a command needs it."""

from securecfg.cli.start import main

__all__ = ["main"]
