"""Where configuration and secrets come from: files, the environment, documents in a vault."""

from securecfg.sources.load import load

__all__ = ["load"]
