"""Sealed scopes: parts of a vault with keys of their own, how they are made, opened, changed, and given new keys."""
