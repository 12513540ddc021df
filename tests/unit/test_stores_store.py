"""Records that no store could keep are refused when they are made."""

from __future__ import annotations

import hashlib
from unittest.mock import patch

import pytest

from sona.errors import InvalidValue
from sona.stores import store as module
from sona.stores.store import Event, Snapshot, blob_digest


def test_the_digest_is_blake2b():
    assert blob_digest(b"data") == hashlib.blake2b(b"data", digest_size=16).digest()


GOOD = {"seq": 1, "kind": "k", "at": 0.0, "subject": None, "trajectory_id": None, "body": b""}


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": 2**63},
        {"kind": ""},
        {"kind": 3},
        {"at": float("nan")},
        {"at": "x"},
        {"subject": 3},
        {"trajectory_id": -1},
        {"trajectory_id": 2**63},
        {"body": "text"},
        {"body": bytearray(b"x")},
    ],
)
def test_an_event_out_of_range_is_refused(change):
    Event(**GOOD)
    with pytest.raises(InvalidValue):
        Event(**{**GOOD, **change})


def test_what_is_longer_than_a_row_may_be_is_refused():
    with patch.object(module, "LARGEST_BYTES", 3):
        Event(**{**GOOD, "body": b"abc"})
        assert Snapshot(0, 0.0, "", b"abcd").data == b"abcd"  # kept in parts
        with pytest.raises(InvalidValue, match="at most 3 bytes"):
            Event(**{**GOOD, "body": b"abcd"})


@pytest.mark.parametrize("change", [{"seq": -1}, {"at": float("inf")}, {"data": "x"}, {"data": bytearray(b"x")}])
def test_a_snapshot_out_of_range_is_refused(change):
    with pytest.raises(InvalidValue):
        Snapshot(**{"seq": 0, "at": 0.0, "digest": "", "data": b"", **change})
