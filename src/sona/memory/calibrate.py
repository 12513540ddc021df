"""Calibration: what similarity, votes and adapters are worth on the data at hand, learned from what people take.

One model says which of the shown items is taken:

    log-odds = a * similarity + t * f(T) - p * f(P) + m * micro shift + b * base shift
               + s * activation over similar memories + l * activation over learned links + display bias of the position

where T and P pool the evidence of the vote memory, T = T_same + sum over bins of reach_bin * T_bin (P alike), and
f(z) = s * log(1 + z / s) lets further observations of one kind count less. A list with at least one reward is one
observation of a conditional logit; the parameters follow it by an online Laplace approximation (a Gaussian
posterior, updated once per list), from priors that trust the same request and nothing beyond it.

Every part is scored on each list before anything is learned from it: what reaches beyond the same request (the
neighbours, either adapter, activation of either kind) on requests never asked before, the same request's own
evidence on requests asked again. A part's weight is multiplied by sigmoid(gain - gate), where gain is the
log-likelihood it has won of late, in nats: the prequential weight of a model against the one without the part. Beyond
the same request the gate has to be earned; the same request starts with a head start that fades, so that it counts at
once and goes on counting only where its own feedback predicts.

Sources: McFadden 1974, conditional logit; Chapelle and Li 2011, online Laplace; Dawid 1984, prequential analysis;
Craswell et al. 2008, position bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats
from sona.config import VoteConfig
from sona.errors import DimensionMismatch, LearningError, StoreError
from sona.memory.belief import Belief, Doubles, Gains, ShownList
from sona.memory.checkpoints import CalibrationCheckpoint
from sona.state import State

__all__ = ["CalibrationCheckpoint", "Calibrator", "Gains", "ShownList", "Weights"]

# Layout of the parameter vector: seven scalars, one reach per bin, one bias per position.
_SIMILARITY, _TAKEN, _PASSED, _MICRO, _BASE, _SIMILAR, _LINKED, _REACH = range(8)
_PLAIN = [_SIMILARITY, _MICRO, _BASE, _SIMILAR, _LINKED]  # what counts as it is
_OWN = np.ones(1)
_PRIOR_MEAN = (4.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
_PRIOR_SD = (3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
_REACH_SD = 0.5
_POSITION_SD = 1.0
_POSITION_DECAY = 0.5  # examined with chance position ** -0.5 until the data say otherwise
_LEAST_SIMILARITY = 1.0  # the score stays in units of similarity, so its weight may not vanish


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Published weights in units of similarity (cosine); never changed, only replaced.

    Args:
        taken: Worth of one unit of evidence for an item.
        passed: Worth of one unit of evidence against it.
        reach: Share of the evidence that counts, by bin, shape (1 + bins,); first that of the same request.
        micro: Strength of the micro adapter.
        base: Strength of the base adapter.
        examined: Chance that a position is looked at, relative to the first, shape (positions,).
        saturation: Observations beyond which further ones count less.
        similar: Worth of activation 1 over links to similar memories.
        linked: Worth of activation 1 over learned links.
    """

    taken: float
    passed: float
    reach: Floats
    micro: float
    base: float
    examined: Floats
    saturation: float
    similar: float = 0.0
    linked: float = 0.0

    def votes(self, taken: Floats, passed: Floats) -> Floats:
        """Return what evidence of shape (m, 1 + bins) adds to the similarity, shape (m,)."""
        pro = np.log1p(_reached(taken, self.reach) / self.saturation)
        con = np.log1p(_reached(passed, self.reach) / self.saturation)
        score: Floats = np.float32(self.saturation) * (np.float32(self.taken) * pro - np.float32(self.passed) * con)
        return score


class Calibrator:
    """Learns what each part of a score is worth; an untrained one trusts the same request alone.

    Args:
        config: Settings.
    """

    def __init__(self, config: VoteConfig | None = None) -> None:
        """Start from the priors."""
        self.config = config or VoteConfig()
        self._bins = len(self.config.similarity_edges)
        bias = -_POSITION_DECAY * np.log(np.arange(1, self.config.positions + 1))
        self._mean: Doubles = np.concatenate([_PRIOR_MEAN, np.zeros(self._bins), bias])
        sd = [*_PRIOR_SD, *[_REACH_SD] * self._bins, *[_POSITION_SD] * self.config.positions]
        self._precision: Doubles = np.diag(np.asarray(sd, np.float64) ** -2)
        self._gains = Gains(own=self.config.own_head_start_nats)
        self._weights = self._publish()
        self._before = self._belief()
        self._last: ShownList | None = None  # the list learned last, when it may be amended
        self._last_key = -1

    def _belief(self) -> Belief:
        return Belief(self._mean, self._precision, self._gains)

    @property
    def weights(self) -> Weights:
        """The weights in force."""
        return self._weights

    @property
    def gains(self) -> Gains:
        """What each part has won so far."""
        return self._gains

    def trust(self, gain: float) -> float:
        """Return the share of its weight that a part with this gain (nats) gets, in (0, 1)."""
        return 1.0 / (1.0 + math.exp(min(self.config.gate_nats - gain, 700.0)))

    def learn(self, shown: ShownList, rewards: Floats, *, key: int = -1) -> bool:
        """Score every part on this list, then learn from it; False for a list without a reward.

        Args:
            shown: The list as it was shown.
            rewards: What each position earned, in [0, 1], shape (m,).
            key: Names the list for `amend`, at least 0, and then it is kept as it is given; -1 when it will not be
                amended.

        Raises:
            DimensionMismatch: not one reward for each position; nothing was changed.
            LearningError: the update is not finite; nothing was changed.
        """
        _require_one_each(rewards, shown)
        before = self._belief()
        is_learned = self._learn(shown, rewards)
        self._before, self._last_key, self._last = before, key, shown if key >= 0 else None
        return is_learned

    def amend(self, rewards: Floats, *, key: int) -> bool:
        """Learn the last list over again with other rewards; False, and nothing changed, when another came since.

        Args:
            rewards: What each position earned, in [0, 1], shape (m,).
            key: The list's name, as `learn` was told.

        Raises:
            DimensionMismatch: not one reward for each position; nothing was changed.
            LearningError: the update is not finite; nothing was changed.
        """
        if self._last is None or key != self._last_key:
            return False
        _require_one_each(rewards, self._last)
        after = self._belief()
        self._hold(self._before)
        try:
            self._learn(self._last, rewards)
        except LearningError:
            self._hold(after)
            raise
        return True

    def _hold(self, belief: Belief) -> None:
        self._mean, self._precision, self._gains = belief.mean, belief.precision, belief.gains
        self._weights = self._publish()

    def _learn(self, shown: ShownList, rewards: Floats) -> bool:
        reward = np.asarray(rewards, np.float64)
        if len(reward) < 2 or not float(reward.sum()) > 0.0:
            return False
        gains = self._scored(shown, reward)
        mean, precision = self._updated(shown, reward)
        if not (np.isfinite(mean).all() and np.isfinite(precision).all()):
            raise LearningError("calibration: the update is not finite; it was not applied")
        self._hold(Belief(mean, precision, gains))
        return True

    def _position(self, count: int) -> npt.NDArray[np.intp]:
        return np.minimum(np.arange(count), self.config.positions - 1)

    def _log_odds(self, shown: ShownList, means: Doubles, own: Doubles) -> Doubles:
        # Of each position, under several parameter vectors at once, each with its own trust: shape (v, m).
        s, bins, count = self.config.saturation, self._bins, len(shown.similarity)
        reach = np.empty((len(means), 1 + bins))
        reach[:, 0], reach[:, 1:] = own, means[:, _REACH : _REACH + bins]
        pro, con = np.log1p(reach.dot(shown.taken.T) / s), np.log1p(reach.dot(shown.passed.T) / s)
        parts = np.empty((5, count))
        parts[0], parts[1], parts[2], parts[3:] = shown.similarity, shown.micro, shown.base, shown.activated
        bias = means[:, _REACH + bins :].take(self._position(count), 1)
        votes = s * (means[:, _TAKEN, None] * pro - means[:, _PASSED, None] * con)
        odds: Doubles = means[:, _PLAIN].dot(parts) + votes + bias
        return odds

    def _scored(self, shown: ShownList, reward: Doubles) -> Gains:
        # Each part against the model without it, the others at the weight they have earned.
        old, full, trusted = self._gains, self._earned(), self._own_trust()
        keep = 1.0 - 1.0 / self.config.memory_lists
        if shown.is_known:
            with_own, without = self._likelihoods(shown, reward, [full, full], [1.0, 0.0])
            return replace(old, own=keep * old.own + with_own - without, lists=old.lists + 1)
        parts = self._parts_of(shown)
        means = [self._with(full, part, value) for part in parts for value in (self._mean[part], 0.0)]
        found = self._likelihoods(shown, reward, means, [trusted] * len(means))
        reach, micro, base, similar, linked = self._won(parts, found)
        return Gains(
            own=old.own,
            reach=keep * old.reach + reach,
            micro=keep * old.micro + micro,
            base=keep * old.base + base,
            similar=keep * old.similar + similar,
            linked=keep * old.linked + linked,
            lists=old.lists + 1,
        )

    def _parts_of(self, shown: ShownList) -> list[slice]:
        # Of the parameters: the reach, and each part that says anything about this list.
        similar, linked = shown.activated
        said = ((_MICRO, shown.micro), (_BASE, shown.base), (_SIMILAR, similar), (_LINKED, linked))
        return [slice(_REACH, _REACH + self._bins), *(slice(part, part + 1) for part, says in said if says.any())]

    @staticmethod
    def _with(full: Doubles, part: slice, value: Doubles | float) -> Doubles:
        mean = full.copy()
        mean[part] = value
        return mean

    @staticmethod
    def _won(parts: list[slice], found: list[float]) -> tuple[float, ...]:
        # What each part of the layout won, 0 where it said nothing; `found` with it and without it by turns.
        won = {part.start: found[2 * place] - found[2 * place + 1] for place, part in enumerate(parts)}
        return tuple(won.get(part, 0.0) for part in (_REACH, _MICRO, _BASE, _SIMILAR, _LINKED))

    def _likelihoods(self, shown: ShownList, reward: Doubles, means: list[Doubles], own: list[float]) -> list[float]:
        odds = self._log_odds(shown, np.array(means), np.array(own))
        odds -= odds.max(axis=1)[:, None]
        found: list[float] = (odds.dot(reward) - reward.sum() * np.log(np.exp(odds).sum(axis=1))).tolist()
        return found

    def _own_trust(self) -> float:
        return self.trust(self._gains.own)

    def _earned(self) -> Doubles:
        earned = self._mean.copy()
        earned[_REACH : _REACH + self._bins] *= self.trust(self._gains.reach)
        earned[_MICRO] *= self.trust(self._gains.micro)
        earned[_BASE] *= self.trust(self._gains.base)
        earned[_SIMILAR] *= self.trust(self._gains.similar)
        earned[_LINKED] *= self.trust(self._gains.linked)
        return earned

    def _updated(self, shown: ShownList, reward: Doubles) -> tuple[Doubles, Doubles]:
        # One Gauss-Newton step of the Laplace approximation at the current mean, linear in the reach.
        mean = self._mean
        features = self._features(shown)
        p = _softmax(self._log_odds(shown, mean[None], _OWN)[0])
        centre = p @ features
        total = float(reward.sum())
        gradient = reward @ features - total * centre
        curvature = total * ((features * p[:, None]).T @ features - np.outer(centre, centre))
        precision = self._precision + curvature
        moved = mean + np.linalg.solve(precision, gradient)
        moved[:_REACH] = np.maximum(moved[:_REACH], 0.0)
        moved[_REACH : _REACH + self._bins] = np.clip(moved[_REACH : _REACH + self._bins], 0.0, 1.0)
        return moved, precision

    def _features(self, shown: ShownList) -> Doubles:
        s, mean = self.config.saturation, self._mean
        reach, scalars = np.empty(1 + self._bins), _REACH + self._bins
        reach[0], reach[1:] = 1.0, mean[_REACH:scalars]
        taken, passed = shown.taken.dot(reach) / s, shown.passed.dot(reach) / s
        count = len(taken)
        features = np.zeros((count, scalars + self.config.positions))
        features[:, _SIMILARITY], features[:, _TAKEN] = shown.similarity, s * np.log1p(taken)
        features[:, _PASSED], features[:, _MICRO] = -s * np.log1p(passed), shown.micro
        features[:, _BASE], features[:, _SIMILAR : _LINKED + 1] = shown.base, shown.activated.T
        features[:, _REACH:scalars] = mean[_TAKEN] * shown.taken[:, 1:] / (1.0 + taken)[:, None]
        features[:, _REACH:scalars] -= mean[_PASSED] * shown.passed[:, 1:] / (1.0 + passed)[:, None]
        features[np.arange(count), scalars + self._position(count)] = 1.0
        return features

    def _publish(self) -> Weights:
        earned = self._earned()
        scale = max(earned[_SIMILARITY], _LEAST_SIMILARITY)
        bias = earned[_REACH + self._bins :]
        return Weights(
            taken=float(earned[_TAKEN] / scale),
            passed=float(earned[_PASSED] / scale),
            reach=np.concatenate([[self._own_trust()], earned[_REACH : _REACH + self._bins]]).astype(np.float32),
            micro=float(earned[_MICRO] / scale),
            base=float(earned[_BASE] / scale),
            examined=np.minimum(np.exp(bias - bias[0]), 1.0).astype(np.float32),
            saturation=self.config.saturation,
            similar=float(earned[_SIMILAR] / scale),
            linked=float(earned[_LINKED] / scale),
        )

    def checkpoint(self) -> CalibrationCheckpoint:
        """Return what the calibrator believes now, to come back to; nothing is copied, as nothing is ever changed."""
        return CalibrationCheckpoint(self._belief(), self._before, self._last, self._last_key)

    def restore(self, checkpoint: CalibrationCheckpoint) -> None:
        """Believe what was believed at `checkpoint`, bit for bit; the number of lists learned from goes on.

        The list that was the last one then is the last one again, and may be amended.

        Raises:
            DimensionMismatch: it was taken with other bins or positions; nothing was changed.
        """
        size, last = len(checkpoint.belief.mean), checkpoint.last
        if size != len(self._mean):
            raise DimensionMismatch(len(self._mean), size, "checkpoint: parameters")
        if last is not None and last.taken.shape[1] != 1 + self._bins:
            raise DimensionMismatch(1 + self._bins, last.taken.shape[1], "checkpoint: bins")
        more = max(self._gains.lists - checkpoint.belief.gains.lists, 0)
        self._hold(checkpoint.belief.counted_on(more))
        self._before = checkpoint.before.counted_on(more)
        self._last, self._last_key = checkpoint.last, checkpoint.last_key

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return self.checkpoint().state()

    @classmethod
    def from_state(cls, state: State, config: VoteConfig | None = None) -> Calibrator:
        """Return the calibrator that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or does not fit `config`.
        """
        calibrator, checkpoint = cls(config), CalibrationCheckpoint.from_state(state)
        try:
            calibrator.restore(checkpoint)
        except DimensionMismatch as error:
            raise StoreError(f"saved state: the calibration has other bins or positions: {error}") from error
        return calibrator


def _reached(evidence: Floats, reach: Floats) -> Floats:
    found = kernel.products(evidence, reach)  # keeps the interpreter's lock: a request that lets it go queues for it
    return evidence @ reach if found is None else found


def _require_one_each(rewards: Floats, shown: ShownList) -> None:
    if np.shape(rewards) != shown.similarity.shape:
        raise DimensionMismatch(len(shown.similarity), np.size(rewards), "rewards")


def _softmax(odds: Doubles) -> Doubles:
    p = np.exp(odds - odds.max())
    result: Doubles = p / p.sum()
    return result
