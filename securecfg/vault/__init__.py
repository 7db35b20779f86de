"""The vault: who asks, may they, which version, record it, open it."""
