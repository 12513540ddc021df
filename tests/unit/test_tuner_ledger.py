import pytest

from sona.errors import StoreError
from sona.state import State, digest
from sona.tuner.ledger import Ledger


def filled():
    ledger = Ledger(3)
    for name, time_s in (("a", 1.0), ("b", 5.0), ("c", 2.0)):
        ledger.add(ledger.account(name, f"SELECT {name}"), time_s)
    ledger.account("b", "SELECT b").refusal = "it writes"
    return ledger


def test_every_run_is_counted_once():
    ledger = filled()
    ledger.add(ledger.account("a", "SELECT a"), 0.5)
    account = ledger.accounts()["a"]
    assert (account.count, account.total_s, account.sql) == (2, 1.5, "SELECT a")
    assert (ledger.queries_processed, ledger.total_s, len(ledger)) == (4, 8.5, 3)


def test_what_costs_most_comes_first():
    assert list(filled().accounts()) == ["b", "c", "a"]


def test_reasons_are_those_of_a_pattern():
    ledger = filled()
    assert (ledger.refusal("b"), ledger.refusal("a"), ledger.refusal("nobody")) == ("it writes", None, None)


def test_the_one_asked_longest_ago_goes_first():
    ledger = filled()
    ledger.account("a", "")
    ledger.account("d", "SELECT d")
    assert set(ledger.accounts()) == {"a", "b", "d"}
    assert ledger.queries_processed == 3  # of all there were


def test_a_long_statement_is_cut():
    assert len(Ledger(1).account("a", "x" * 9000).sql) == 2000


def test_it_comes_back_bit_for_bit():
    ledger = filled()
    state = ledger.state()
    again = Ledger.from_state(state, 3)
    assert digest(again.state()) == digest(state)
    again.account("d", "")
    ledger.account("d", "")
    assert list(again.accounts()) == list(ledger.accounts())


@pytest.mark.parametrize(
    "damage",
    [{"count": "x"}, {"count": 1.5}, {"total_s": None}, {"sql": 3}, {"refusal": 4}, {"count": True}, {"unknown": 1}],
    ids=str,
)
def test_a_damaged_account_is_refused(damage):
    values = dict(filled().state().items())
    first, *rest = values["accounts"]
    with pytest.raises(StoreError):
        Ledger.from_state(State({**values, "accounts": [{**first, **damage}, *rest]}), 3)


@pytest.mark.parametrize(
    "damage", [{"fingerprints": ["a"]}, {"accounts": 3}, {"total_s": "x"}, {"queries_processed": 1.5}]
)
def test_a_damaged_ledger_is_refused(damage):
    with pytest.raises(StoreError):
        Ledger.from_state(State({**dict(filled().state().items()), **damage}), 3)
