"""What a list earned, and what of it the common beginning earned."""

from sklearn.metrics import label_ranking_average_precision_score

from sona.guard.quality import list_quality


def test_quality_of_one_click_is_the_reciprocal_rank():
    for place in range(5):
        rewards = [float(position == place) for position in range(5)]
        oracle = label_ranking_average_precision_score([rewards], [[5, 4, 3, 2, 1]])
        assert list_quality(rewards, 0)[0] == oracle


def test_the_best_reward_over_its_position_counts():
    assert list_quality([0.2, 0.0, 0.9], 0) == (0.3, 0.0)
    assert list_quality([0.2, 0.0, 0.9], 1) == (0.3, 0.2)


def test_nothing_shown_earns_nothing():
    assert list_quality([], 3) == (0.0, 0.0)


def test_a_prefix_longer_than_the_list_is_the_list():
    assert list_quality([0.0, 1.0], 9) == (0.5, 0.5)


def test_the_surplus_is_never_more_than_the_first_place_beyond_the_prefix_can_earn():
    for prefix in range(4):
        quality, common = list_quality([1.0] * 4, prefix)
        assert quality - common <= 1.0 / (prefix + 1)
