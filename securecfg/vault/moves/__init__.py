"""Secrets that move from one part of a vault to another with all their history, and scopes that are made of them."""
