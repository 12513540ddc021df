"""What every query pattern cost, whether it is tuned or left alone: counts that stay true over restarts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Self, cast

from sona.errors import StoreError
from sona.state import Plain, State

_LONGEST = 2000  # characters of a statement that are kept


class Account:
    """What one pattern cost.

    Args:
        sql: The statement without its values.
        count: Times it was run.
        total_s: Seconds that the application waited for it.
        saved_s: Seconds that it would have waited longer under the server's own choice, as far as that is known.
        explored_s: Seconds of `total_s` that trying cost.
        refusal: Why it is left alone; None when it is not.
        problem: Why no index can serve its search, and the cure; None when one can, or it is no search.
    """

    __slots__ = ("count", "explored_s", "problem", "refusal", "saved_s", "sql", "total_s")

    def __init__(
        self,
        sql: str,
        *,
        count: int = 0,
        total_s: float = 0.0,
        saved_s: float = 0.0,
        explored_s: float = 0.0,
        refusal: str | None = None,
        problem: str | None = None,
    ) -> None:
        """Open an account; a new one has cost nothing."""
        self.sql, self.count, self.refusal, self.problem = sql, count, refusal, problem
        self.total_s, self.saved_s, self.explored_s = total_s, saved_s, explored_s

    def plain(self) -> dict[str, Plain]:
        """Return everything as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


class Ledger:
    """Accounts of query patterns, by fingerprint.

    Args:
        capacity: Patterns kept; the one asked longest ago goes first.
    """

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self.queries_processed = 0
        self.total_s = 0.0

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self._accounts)

    def account(self, fingerprint: str, sql: str) -> Account:
        """Return the account of a pattern, opened when there is none."""
        if fingerprint not in self._accounts:
            self._accounts[fingerprint] = Account(sql[:_LONGEST])
            if len(self._accounts) > self._capacity:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(fingerprint)
        return self._accounts[fingerprint]

    def refusal(self, fingerprint: str) -> str | None:
        """Return why a pattern is left alone; None when nothing is known against it."""
        account = self._accounts.get(fingerprint)
        return None if account is None else account.refusal

    def add(self, account: Account, time_s: float) -> None:
        """Count one run."""
        account.count += 1
        self.queries_processed += 1
        self.wait(account, time_s)

    def wait(self, account: Account, time_s: float) -> None:
        """Count time that the application waited, run or not."""
        account.total_s += time_s
        self.total_s += time_s

    def accounts(self) -> Mapping[str, Account]:
        """Return all accounts by fingerprint, those that cost most first."""
        return dict(sorted(self._accounts.items(), key=lambda item: -item[1].total_s))

    def state(self) -> State:
        """Return every account."""
        return State(
            {
                "fingerprints": list(self._accounts),
                "accounts": [account.plain() for account in self._accounts.values()],
                "queries_processed": self.queries_processed,
                "total_s": self.total_s,
            }
        )

    @classmethod
    def from_state(cls, state: State, capacity: int) -> Self:
        """Return the ledger that `state` came from.

        Raises:
            StoreError: damaged.
        """
        ledger, accounts = cls(capacity), state.listing("accounts")
        try:
            read = [Account(**cast("dict[str, Plain]", values)) for values in accounts]  # type: ignore[arg-type]
            ledger._accounts = OrderedDict(zip(state.texts("fingerprints"), map(_checked, read), strict=True))
        except (TypeError, ValueError) as error:
            raise StoreError("saved state: an account of the tuner is damaged") from error
        ledger.queries_processed, ledger.total_s = state.whole("queries_processed"), state.number("total_s")
        return ledger


def _checked(account: Account) -> Account:
    for name, kinds in _KINDS.items():
        value = getattr(account, name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(name)
    return account


_KINDS: Mapping[str, tuple[type, ...]] = {
    "sql": (str,),
    "count": (int,),
    **dict.fromkeys(("total_s", "saved_s", "explored_s"), (int, float)),
    **dict.fromkeys(("refusal", "problem"), (str, type(None))),
}
