import numpy as np
import pytest

from sona.demo.clicks import clicks, shuffled

SHOWN = [f"d{place}" for place in range(10)]


@pytest.mark.parametrize("relevant", [set(), {"d0", "d4"}, set(SHOWN)])
def test_click_rates_are_the_protocols(relevant):
    rng = np.random.default_rng(0)
    draws = 20_000
    counts = np.zeros(10)
    for _ in range(draws):
        counts += [item in hit for hit in [clicks(SHOWN, relevant, rng)] for item in SHOWN]
    wanted = np.array([item in relevant for item in SHOWN])
    expected = np.arange(1, 11) ** -0.5 * np.where(wanted, 0.9, 0.1)
    np.testing.assert_allclose(counts / draws, expected, atol=0.015)


def test_clicks_earn_one_and_follow_the_seed():
    first, again = (clicks(SHOWN, {"d0"}, np.random.default_rng(4)) for _ in range(2))
    assert first == again
    assert set(first.values()) <= {1.0}
    assert clicks([], {"d0"}, np.random.default_rng(0)) == {}


def test_draws_do_not_depend_on_what_is_relevant():
    left, right = np.random.default_rng(5), np.random.default_rng(5)
    clicks(SHOWN, {"d0"}, left)
    clicks(SHOWN, set(SHOWN), right)
    assert left.random() == right.random()


def test_shuffled_keeps_the_rewards_and_forgets_where_they_belong():
    rng = np.random.default_rng(6)
    rewards = {"d0": 1.0, "d3": 0.5}
    counts = dict.fromkeys(SHOWN, 0)
    for _ in range(4000):
        moved = shuffled(rewards, SHOWN, rng)
        assert sorted(moved.values()) == [0.5, 1.0]
        for item in moved:
            counts[item] += 1
    np.testing.assert_allclose([count / 4000 for count in counts.values()], 0.2, atol=0.03)
    assert shuffled({}, SHOWN, rng) == {}
