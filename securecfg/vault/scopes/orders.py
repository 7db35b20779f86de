"""The drop orders of one sealed scope, as an administrator gives them to the roles that may drop.

Of many roles some get theirs right after the change that it goes with. Until then they have none: nobody drops under a
key before.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import Conflict, SecurecfgError
from securecfg.store import Space
from securecfg.vault.commits.maintenance import delete_rows
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.drops.orders import ORDER_PATH, droppers, order_row_of, parse_order, remove_orders
from securecfg.vault.paths import SUCCESSION_PATH
from securecfg.vault.scopes.opening import charter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from securecfg.store import Put
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drops.orders import Admission, SignedOrder
    from securecfg.vault.scopes.charters import Charter

ORDERS_WITH_CHANGE = 4
"""How many drop orders are given in the publication of the change itself; the others right after it."""

_ORDERS_AT_ONCE = 16
_ORDERS_BYTES = 400_000


class ScopeOrders:
    """The orders of an open scope.

    Args:
        authority: Records for the administrator in the scope.
        roles: The public keys of roles, 1,248 bytes each, and who is certified as a member and lacks the key. Looked at
            anew whenever orders are given.
    """

    def __init__(self, authority: Authority, roles: Mapping[str, tuple[bytes, Sequence[Admission]]]) -> None:
        """Give none yet."""
        self._opened = authority.opened
        self._authority = authority
        self._roles = roles
        self._succession = authority.opened.system_bytes(SUCCESSION_PATH) or b""

    def follow(self, succession: bytes) -> None:
        """Give orders from now on that tell how those who sign now came to be administrators.

        Args:
            succession: The document that says so.
        """
        self._succession = succession

    def ask_for_admission(self) -> None:
        """Ask the members of roles that drop to let in who lacks the key: they may read no document of the scope.

        An order that is gone is given anew.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._seal(lambda name: bool(self._roles[name][1]) or self._lacks_order(name))

    def give(self) -> None:
        """Give their drop order to the roles that may drop and lack it: of many some get it after the change.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._seal(self._lacks_order)

    @contextmanager
    def giving(self) -> Iterator[None]:
        """Give the drop orders that do not fit into a change right after it; where it failed, those that are gone."""
        try:
            yield
        except BaseException:
            with suppress(SecurecfgError):  # whoever finishes the change gives them
                self.give()
            raise
        late = self._late_droppers(charter_of(self._opened))
        self._seal(lambda name: name in late or self._lacks_order(name))

    def complete_plan(self, publication: Publication, plan: Plan, charter: Charter, order: SignedOrder | None) -> None:
        """Give roles that may drop an order for the keys in use, and take theirs from those that may no more.

        Raises:
            Conflict: A role that gets its order after the change has the one before.
        """
        names = droppers(charter.parties)
        gone = droppers(charter_of(self._opened).parties) - names
        plan.deletes += remove_orders(charter.scope_id, (self._roles[name][0] for name in gone & self._roles.keys()))
        if order is None:
            return
        late = remove_orders(charter.scope_id, (self._roles[name][0] for name in self._late_droppers(charter)))
        if any(publication.row(old.space, old.id) is not None for old in late):
            message = "somebody else gave the drop orders of the scope anew at the same moment"
            raise Conflict(message, hint="try again")
        plan.puts += [
            order.seal(*self._roles[name], self._succession) for name in self._droppers(charter)[:ORDERS_WITH_CHANGE]
        ]
        plan.join(Drafts(self._opened, publication).write(ORDER_PATH, order.to_content(), self._new_version()))

    def withdraw(self, charter: Charter) -> None:
        """Take the orders from those that get the next one after the change, so that nobody drops under the old key."""
        publics = (self._roles[name][0] for name in self._late_droppers(charter))
        delete_rows(self._opened, remove_orders(charter.scope_id, publics))

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _droppers(self, charter: Charter) -> list[str]:
        """Return the roles that may drop; one that the vault does not know gets no order."""
        return sorted(droppers(charter.parties) & self._roles.keys())

    def _late_droppers(self, charter: Charter) -> list[str]:
        """Return those that get their order after the change that a charter goes with."""
        return self._droppers(charter)[ORDERS_WITH_CHANGE:]

    def _seal(self, is_chosen: Callable[[str], bool]) -> None:
        """Give some of the roles that may drop the order of the scope, as many in one publication as it takes."""
        opened = self._opened
        left = list(filter(is_chosen, self._droppers(charter_of(opened))))

        def plan(_publication: Publication) -> Plan:
            charter = charter_of(opened)
            names = droppers(charter.parties)
            puts: list[Put] = []
            for name in left:
                if name in names:
                    order = parse_order(opened.system_bytes(ORDER_PATH) or b"")
                    puts.append(order.seal(*self._roles[name], self._succession))
                if len(puts) == _ORDERS_AT_ONCE or sum(len(put.row) for put in puts) > _ORDERS_BYTES:
                    break
            obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
            records = [self._authority.session().record(Event.SCOPE_CHANGED, obj)] if puts else []
            return Plan(puts=puts, records=records, result=name)

        while left:
            last = opened.publisher.publish(plan)
            left = [name for name in left if name > str(last)]

    def _lacks_order(self, name: str) -> bool:
        row = order_row_of(self._roles[name][0], charter_of(self._opened).scope_id)
        return self._opened.store.get(Space.GRANT, row) is None

    def _new_version(self) -> NewVersion:
        return NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())
