"""Backups of a vault in use, with all its sealed scopes, and the way back."""
