"""The running Fisher against direct formulas and a fitted logistic regression."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sona.config import EwcConfig
from sona.errors import DimensionMismatch, InvalidValue
from sona.retention.ewc import EwcPlusPlus
from sona.retention.fisher import RunningFisher
from sona.state import digest


def learner(width: int, **settings) -> EwcPlusPlus:
    return EwcPlusPlus(EwcConfig(param_count=width, **settings))


def test_first_update_is_the_squared_gradient_at_any_decay():
    gradient = np.random.default_rng(1).normal(size=50).astype(np.float32)
    for decay in (0.0, 0.5, 0.999, 0.999999):
        ewc = learner(50, fisher_decay=decay)
        ewc.update_fisher(gradient)
        np.testing.assert_allclose(ewc.fisher, gradient.astype(np.float64) ** 2, rtol=2e-7)


def test_running_mean_equals_the_weighted_mean_of_all_batches():
    rng = np.random.default_rng(2)
    decay, ewc = 0.9, learner(20, fisher_decay=0.9)
    batches = [rng.normal(size=(n, 20)).astype(np.float32) for n in (3, 1, 7, 2)]
    for batch in batches:
        ewc.update_fisher(batch)
    weights = np.array([decay ** (len(batches) - 1 - k) for k in range(len(batches))])
    means = np.array([np.mean(batch.astype(np.float64) ** 2, axis=0) for batch in batches])
    np.testing.assert_allclose(ewc.fisher, np.average(means, axis=0, weights=weights), rtol=1e-6)


def test_square_of_a_batch_is_the_mean_of_squares_not_the_square_of_the_mean():
    ewc = learner(1)
    result = ewc.update_fisher([[1.0], [-1.0]])
    assert result.updated
    assert result.examples == 2
    assert result.skipped_reason is None
    assert ewc.fisher == pytest.approx(1.0)


def test_long_batches_are_summed_exactly_across_blocks():
    gradients, running = np.random.default_rng(3).normal(size=(5000, 173)).astype(np.float32), RunningFisher(173, 0.0)
    running.update(gradients[::1, ::-1])
    expected = np.mean(gradients[:, ::-1].astype(np.float64) ** 2, axis=0)
    np.testing.assert_allclose(running.state().doubles("moment", 173), expected, rtol=1e-12)


def test_fisher_of_a_logistic_regression_is_its_information_matrix():
    """With labels drawn from the model itself, E[g g^T] = X^T diag(p (1 - p)) X / n (the textbook Fisher)."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 5))
    y = (x @ np.array([1.0, -2.0, 0.5, 0.0, 1.0]) + rng.logistic(size=200) > 0).astype(int)
    model = LogisticRegression(fit_intercept=False).fit(x, y)
    p = model.predict_proba(x)[:, 1]
    information = (x.T * (p * (1 - p))) @ x / len(x)
    ewc = learner(5, fisher_decay=0.999999)
    for quantile in (np.arange(500) + 0.5) / 500:
        ewc.update_fisher((p - (quantile < p))[:, None] * x)
    np.testing.assert_allclose(ewc.fisher, np.diag(information), rtol=2e-3)


def test_an_empty_batch_is_skipped_and_says_so():
    ewc = learner(3)
    result = ewc.update_fisher(np.zeros((0, 3)))
    assert not result.updated
    assert result.examples == 0
    assert "no examples" in result.skipped_reason


def test_huge_gradients_stay_finite():
    ewc = learner(2)
    ewc.update_fisher([1e30, 1.0])
    assert np.isfinite(ewc.fisher).all()
    ewc.start_new_task([0.0, 0.0])
    assert np.isfinite(ewc.apply_constraints([1.0, 1.0], [1.0, 1.0])).all()
    assert np.isfinite(ewc.regularization_gradient([1.0, 1.0])).all()


@pytest.mark.parametrize(
    ("gradients", "error"),
    [
        (np.zeros(4), DimensionMismatch),
        (np.zeros((2, 2)), DimensionMismatch),
        (np.zeros((1, 2, 3)), InvalidValue),
        ([1.0, np.nan, 0.0], InvalidValue),
        ([[1.0, np.inf, 0.0]], InvalidValue),
        ([[1.0, 2.0, 3.0], [1.0]], InvalidValue),
        (["a", "b", "c"], InvalidValue),
        (1.0, InvalidValue),
    ],
)
def test_bad_gradients_are_refused_and_change_nothing(gradients, error):
    ewc = learner(3)
    ewc.update_fisher([1.0, 2.0, 3.0])
    before = digest(ewc.state())
    with pytest.raises(error):
        ewc.update_fisher(gradients)
    assert digest(ewc.state()) == before
