"""The state of a vault that its log vouches for: the head, a process's replica, and the anchor outside the vault."""
