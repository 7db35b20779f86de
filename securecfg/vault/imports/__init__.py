"""Imports as the vault keeps them: their steps, their documents, and marks on values that stood in the open."""
