"""What those may know who could open a bundle and are no members with that key any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.vault.bundles.notes import given_from, is_about
from securecfg.vault.keys.departures import all_versions, same_values
from securecfg.vault.members import identities_of
from securecfg.vault.opened import Located
from securecfg.vault.paths import FIRST_USER_PATH

if TYPE_CHECKING:
    from securecfg.vault.authority import Authority
    from securecfg.vault.opened import OpenVault

    _Holders = dict[tuple[str, str, str], int]
    _Gone = dict[tuple[int, int], dict[str, _Holders]]


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

    A secret leaves the list when its current value is another, or when its key is a member's again. A scope knows the
    members of its own roles. Who lists it and does not read it cannot compare values: for him each new version counts
    as another value.

    Raises:
        NotAuthenticated: Nobody says who asks.
        Tampered: A row does not match the signed state.
    """
    opened = authority.opened
    opened.refresh()
    policy = opened.policy()[1]
    current = {(name, identity.fingerprint.hex()) for name, identity in identities_of(opened).items()}
    # Versions keep their number and time wherever their secret is moved to.
    gone: _Gone = {}
    for noted in given_from(opened):
        role = f"role:{noted.role}"
        for name, fingerprint in noted.recipients.items():
            if (name, fingerprint) in current and role in policy.roles_of(name):
                continue
            for then, number, created, _ in noted.versions:
                known = gone.setdefault((number, created), {}).setdefault(then, {})
                key = (noted.role, name, fingerprint)
                known[key] = max(noted.issued, known.get(key, 0))
    if not gone:
        return []
    live = [path for path, entry in opened.entries(FIRST_USER_PATH, None) if entry.live]
    listed = set(authority.filter_listed([path.decode() for path in live]))
    found = []
    for path in live:
        if path.decode() in listed:
            number, holders = opened.consistently(partial(_holders, opened, path, gone))
            found += [
                KnownFromBundle(path.decode(), number, *holder, to_datetime(issued))
                for holder, issued in sorted(holders.items())
            ]
    return found


def _holders(opened: OpenVault, path: bytes, gone: _Gone) -> tuple[int, _Holders]:
    """Return the current version of a secret, and who could open a bundle with its value, and when that was published.

    A value that comes back, as after a rollback, is one that was in the bundle.
    """
    entry = opened.replica.index.get(path)
    if entry is None or not entry.live:
        return 0, {}
    history = opened.history(path, entry)
    current = opened.locate(path, entry, 0).version
    given = [version for version in all_versions(opened, history) if (version.number, version.created) in gone]
    holders: _Holders = {}
    for version in chain((current,), same_values(opened, Located(entry, history, current), given)):
        place = version.number, version.created
        for then, those in gone.get(place, {}).items():
            if is_about(opened, (then, *place), path):
                holders |= {holder: max(issued, holders.get(holder, 0)) for holder, issued in those.items()}
    return current.number, holders
