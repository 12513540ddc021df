"""The arms of a search: the server's own first, the exact one last, and none that changes an order."""

import pytest

from sona.errors import InvalidValue
from sona.tuner.searches.arms import EXACT, OWN, finds_no_more, search_arms


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
def test_the_servers_own_choice_is_first_and_the_exact_search_last(kind):
    arms = search_arms(kind)
    assert arms[0] == OWN
    assert arms[0].params.is_default
    assert arms[-1] == EXACT
    assert len({arm.name for arm in arms}) == len({str(arm.params.settings) for arm in arms}) == len(arms)


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat", ""])
def test_no_arm_changes_the_order_of_rows(kind):
    assert not any("relaxed_order" in arm.params.settings.values() for arm in search_arms(kind))


@pytest.mark.parametrize(("kind", "prefix"), [("hnsw", "hnsw."), ("ivfflat", "ivfflat.")])
def test_an_index_is_sent_its_own_settings_alone(kind, prefix):
    for arm in search_arms(kind)[1:-1]:
        assert all(name.startswith(prefix) for name in arm.params.settings)


def test_the_server_takes_every_effort():
    assert all(1 <= arm.params.ef_search <= 1000 for arm in search_arms("hnsw")[1:-1])
    assert all(1 <= arm.params.probes <= 32768 for arm in search_arms("ivfflat")[1:-1])


def test_without_an_index_there_is_nothing_to_choose():
    assert search_arms("") == (OWN,)


def test_another_index_is_refused():
    with pytest.raises(InvalidValue, match="expected hnsw, ivfflat"):
        search_arms("btree")


def test_a_greater_effort_finds_no_less():
    arms = {arm.name: arm for arm in search_arms("hnsw")}
    assert finds_no_more(arms["ef 80"], arms["ef 200"])
    assert not finds_no_more(arms["ef 200"], arms["ef 80"])
    assert not finds_no_more(arms["ef 80"], arms["ef 80"])
    assert finds_no_more(arms["strict 80"], arms["strict 200"])
    assert not finds_no_more(arms["ef 80"], arms["strict 200"])  # nobody promises that across kinds of scans
    assert not finds_no_more(OWN, arms["ef 80"])  # the server's own effort is not known
    lists = search_arms("ivfflat")
    assert finds_no_more(lists[1], lists[2])
