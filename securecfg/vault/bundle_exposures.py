"""What those may know who could open a bundle and are no members with that key any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.vault.bundle_notes import published_by
from securecfg.vault.members import identities_of
from securecfg.vault.paths import FIRST_USER_PATH

if TYPE_CHECKING:
    from securecfg.vault.authority import Authority


@dataclass(frozen=True, slots=True)
class KnownFromBundle:
    """A secret whose current value lies in a bundle for a key that is no longer a member's.

    Attributes:
        path: The secret's path.
        version: Its current version.
        role: The role that the bundle was published for.
        principal: Whose key it was.
        fingerprint: That of the key, in hexadecimal digits.
        since: When the newest such bundle was published.
    """

    path: str
    version: int
    role: str
    principal: str
    fingerprint: str
    since: datetime

    def days(self, now: datetime) -> int:
        """Return for how many whole days the value has been in it, whatever the clocks said."""
        return max(now - self.since, timedelta(0)).days


def find_known_from_bundles(authority: Authority) -> list[KnownFromBundle]:
    """Return what the holders of replaced and removed keys may know, by path, as far as the caller may list it.

    A secret leaves the list with a new current version, or when its key is a member's again.

    Raises:
        NotAuthenticated: Nobody says who asks.
        Tampered: A row does not match the signed state.
    """
    opened = authority.opened
    opened.refresh()
    policy = opened.policy()[1]
    current = {(name, identity.fingerprint.hex()) for name, identity in identities_of(opened).items()}
    # Versions keep their number and time wherever their secret is moved to.
    gone: dict[tuple[int, int], dict[tuple[str, str, str], int]] = {}
    for noted in published_by(opened):
        role = f"role:{noted.role}"
        for name, fingerprint in noted.recipients.items():
            if (name, fingerprint) in current and role in policy.roles_of(name):
                continue
            for _, number, created, _ in noted.versions:
                known = gone.setdefault((number, created), {})
                key = (noted.role, name, fingerprint)
                known[key] = max(noted.issued, known.get(key, 0))
    if not gone:
        return []
    live = [path for path, entry in opened.entries(FIRST_USER_PATH, None) if entry.live]
    listed = set(authority.filter_listed([path.decode() for path in live]))
    found = []
    for path in live:
        if path.decode() in listed:
            number, created = opened.consistently(partial(_current, authority, path))
            found += [
                KnownFromBundle(path.decode(), number, *key, to_datetime(issued))
                for key, issued in sorted(gone.get((number, created), {}).items())
            ]
    return found


def _current(authority: Authority, path: bytes) -> tuple[int, int]:
    opened = authority.opened
    entry = opened.replica.index.get(path)
    if entry is None or not entry.live:
        return 0, 0
    version = opened.locate(path, entry, 0).version
    return version.number, version.created
