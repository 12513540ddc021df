"""Leases: who may have one, and what is kept of it."""

from __future__ import annotations

import json

import pytest

from sona.errors import InvalidValue, StoreError
from sona.stores.lease import Lease, asked_for, lease_of, may_have


@pytest.mark.parametrize("lease", [Lease("ann", 10.0), Lease("lone \ud800", -1e-300), Lease('"\u00e9\n', 1e300)])
def test_a_lease_comes_back_from_its_text(lease):
    assert lease_of(lease.as_text()) == lease


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '["ann"]', '["", 1.0]', '["ann", NaN]', '["ann", "soon"]', "[1, 2]"]
)
def test_a_text_that_is_no_lease_is_a_store_error(text):
    with pytest.raises(StoreError, match="lease is damaged"):
        lease_of(text)


def test_nobody_is_kept_off_by_no_lease_by_their_own_or_by_one_that_ran_out():
    assert may_have("ann", None, 0.0)
    assert may_have("ann", Lease("ann", 10.0), 0.0)
    assert may_have("bob", Lease("ann", 10.0), 10.0)
    assert not may_have("bob", Lease("ann", 10.0), 9.0)


def test_what_is_asked_for_is_kept_as_a_number():
    lease = asked_for("learn", "ann", now=0, until=5)
    assert json.loads(lease.as_text()) == ["ann", 5.0]
    with pytest.raises(InvalidValue, match="expected a moment after now, 5, got 5"):
        asked_for("learn", "ann", now=5, until=5)
