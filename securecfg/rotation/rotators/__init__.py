"""The rotators of this package: one module for each kind of credential."""
