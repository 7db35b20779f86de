"""Whom members of sealed scopes believe: who signs, who comes after them, and whom this machine has seen first."""
