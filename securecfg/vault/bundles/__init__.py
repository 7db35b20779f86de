"""Bundles: what a role may read as one file, how that is read, and how the records of it come back."""
