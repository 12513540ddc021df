"""Assignment: keyed, stable, uniform, and monotone in the exposure."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from sona.errors import InvalidValue
from sona.guard.holdout import Arm, assigned, draw, name_of

KEY = b"secret"


def test_a_draw_is_the_keyed_hash_of_the_unit():
    digest = hashlib.blake2b("jürgen".encode(), digest_size=8, key=KEY, person=b"sona arm").digest()
    assert draw(KEY, "jürgen") == int.from_bytes(digest, "big") // 2048 / 2**53


def test_draws_are_uniform_and_the_key_decides():
    numbers = np.array([draw(KEY, f"u{n}") for n in range(5000)])
    others = np.array([draw(b"other", f"u{n}") for n in range(5000)])
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(numbers, others)[0, 1]) < 0.06


def test_the_name_of_a_unit_says_nothing_about_its_arm():
    numbers = [draw(KEY, f"u{n}") for n in range(5000)]
    names = [name_of(KEY, f"u{n}") for n in range(5000)]
    assert abs(np.corrcoef(numbers, np.array(names, float))[0, 1]) < 0.06
    assert all(-(2**63) <= name < 2**63 for name in names)
    assert len(set(names)) == 5000


@pytest.mark.parametrize("key", [b"", b"x" * 65])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(InvalidValue, match="key"):
        draw(key, "u")


def test_lone_surrogates_have_a_draw():
    assert 0.0 <= draw(KEY, "\ud800") < 1.0


def test_shares_are_those_asked_for():
    found = [assigned(number, 0.3, 0.1) for number in np.linspace(0.0, 1.0, 1000, endpoint=False)]
    assert sum(one.arm is Arm.LEARNED for one in found) == 300
    assert sum(one.is_held_out for one in found) == 100
    assert not any(one.is_held_out and one.arm is Arm.LEARNED for one in found)


def test_who_is_held_out_is_never_shown_what_was_learned():
    assert assigned(0.0499, exposure=0.95, holdout=0.05).arm is Arm.FROZEN
    assert assigned(0.0501, exposure=0.95, holdout=0.05).arm is Arm.LEARNED
