"""Keys on PKCS#11 tokens: which one a URI names, the one session of a process, and what a token can do."""

from __future__ import annotations

from securecfg.keys.tokens.uri import TokenUri, parse_token_uri

__all__ = ["TokenUri", "parse_token_uri"]
