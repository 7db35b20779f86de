"""The index of a vault: which path is which secret, and all its versions; in memory, and as sealed rows."""
