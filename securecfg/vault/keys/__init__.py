"""The keys of an open vault: its slots, new root and scope keys, their limits, and what holders of others may know."""
