"""Planted defects, each of which a named test must find: `python -m tests.mutants`."""
