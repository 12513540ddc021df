"""Everything learned, for vectors of one width: adapters, votes, their calibration, patterns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.checks import Floats, setting_whole
from sona.config import EwcConfig, SonaConfig
from sona.engine.candidates import Candidates
from sona.errors import ConfigError, LearningError, StoreError
from sona.guard.rehearsal import Rehearsal, RehearsedList, rehearse
from sona.loops.background import BackgroundChange, BackgroundLoop
from sona.loops.coordinator import LoopCheckpoint, LoopCoordinator
from sona.loops.instant import InstantLoop, InstantResult
from sona.memory.calibrate import CalibrationCheckpoint, Calibrator, ShownList, Weights
from sona.memory.votes import Evidence, Receipt, Showing, VoteCheckpoint, VoteMemory, unit
from sona.patterns.bank import ReasoningBank
from sona.retention.ewc import EwcPlusPlus
from sona.state import State
from sona.types import QueryTrajectory

_ROUNDING = 1e-6  # a float32 cosine below it is rounding noise


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The best candidates, best first: their rows and scores."""

    rows: npt.NDArray[np.intp]
    scores: Floats

    def positive(self) -> Scored:
        """Return the candidates that score above 0; without similarity and without a vote, nothing is an answer."""
        best = slice(int(np.count_nonzero(self.scores > _ROUNDING)))
        return Scored(self.rows[best], self.scores[best])


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Both answers to one request.

    Args:
        frozen: By plain cosine.
        learned: With everything learned.
        learning_us: What the learned one took beyond the frozen one, microseconds.
    """

    frozen: Scored
    learned: Scored
    learning_us: float

    def positive(self) -> Choice:
        """Return both without the candidates that score 0."""
        return Choice(self.frozen.positive(), self.learned.positive(), self.learning_us)

    @property
    def is_identical(self) -> bool:
        """True when both show the same candidates in the same order."""
        return len(self.frozen.rows) == len(self.learned.rows) == self.common

    @property
    def common(self) -> int:
        """How many candidates both begin with."""
        size = min(len(self.frozen.rows), len(self.learned.rows))
        differs = np.flatnonzero(self.frozen.rows[:size] != self.learned.rows[:size])
        return int(differs[0]) if len(differs) else size


@dataclass(frozen=True, slots=True, eq=False)
class LearnerCheckpoint:
    """Everything that decides answers at one moment; shares what is immutable."""

    loops: LoopCheckpoint
    votes: VoteCheckpoint
    calibration: CalibrationCheckpoint

    def state(self) -> State:
        """Return it as a state tree."""
        return State(
            {"loops": self.loops.state(), "votes": self.votes.state(), "calibration": self.calibration.state()}
        )

    @classmethod
    def from_state(cls, state: State) -> LearnerCheckpoint:
        """Return the checkpoint that `state` was taken from, or raise StoreError."""
        return cls(
            LoopCheckpoint.from_state(state.child("loops")),
            VoteCheckpoint.from_state(state.child("votes")),
            CalibrationCheckpoint.from_state(state.child("calibration")),
        )


class Learner:
    """What an engine has learned; a new one leaves vectors and rankings exactly as they are.

    Readers (`adapt`, `score`) never lock: they use published, immutable weights. Writers take turns, which the
    engine sees to.
    """

    def __init__(self, hidden_dim: int, config: SonaConfig) -> None:
        """Make an untrained learner for width `hidden_dim`.

        Raises:
            ConfigError: a setting does not fit this width.
        """
        setting_whole(hidden_dim, "hidden_dim", 1)
        self.hidden_dim, self.config = hidden_dim, config
        micro = MicroLoRA(
            hidden_dim, config.micro_lora_rank, seed=config.seed, trust_region=config.micro_lora_trust_region
        )
        ewc = EwcPlusPlus(_ewc_config(config, micro.param_count))
        base = BaseLoRA(hidden_dim, _base_rank(config, hidden_dim), config.base_lora_layers)
        bank = ReasoningBank(config.patterns, hidden_dim=hidden_dim)
        background = BackgroundLoop(bank, base, ewc, config.background())
        self.loops = LoopCoordinator(InstantLoop(micro, ewc, config.instant()), background)
        self.votes = VoteMemory(hidden_dim, config.votes)
        self.calibrator = Calibrator(config.votes)
        self.rejected_lists = 0

    @property
    def micro(self) -> MicroLoRA:
        """The instant adapter."""
        return self.loops.instant.micro

    @property
    def base(self) -> BaseLoRA:
        """The lasting adapter."""
        return self.loops.background.base

    @property
    def bank(self) -> ReasoningBank:
        """The patterns."""
        return self.loops.background.bank

    def adapt(self, x: Floats) -> Floats:
        """Return `x`, shape (d,) or (n, d), corrected by both adapters; untrained, `x` itself."""
        return self.loops.adapters.forward(x)

    def score(self, x: Floats, candidates: Candidates, k: int) -> Choice:
        """Return the best `k` candidates for the request `x`, shape (d,), frozen and learned.

        The learned score is the cosine, shifted by the adapters and the votes as far as each has earned it.
        """
        asked = unit(x)
        plain = candidates.cosines(asked)
        frozen = _best(plain, k)
        began = time.perf_counter()
        heading = self._heading(asked, self.calibrator.weights)
        scores = plain if heading is asked else candidates.cosines(heading)
        evidence = self.votes.look_up(asked) if self.config.use_votes else None
        if evidence is not None and evidence.items:
            scores = _voted(scores, evidence, candidates.row_of, self.calibrator.weights)
        learned = frozen if scores is plain else _best(scores, k)
        return Choice(frozen, learned, (time.perf_counter() - began) * 1e6)

    def _heading(self, asked: Floats, weights: Weights) -> Floats:
        if not (weights.micro or weights.base):
            return asked
        adapters = self.loops.adapters
        micro, base = adapters.micro.delta(asked), adapters.base.delta(0, asked)
        heading: Floats = asked + np.float32(weights.micro) * micro + np.float32(weights.base) * base
        return heading

    def shown(self, outcome: QueryTrajectory) -> ShownList:
        """Return what calibration is to know of a list, as things are before the list is learned from."""
        asked = unit(outcome.query_embedding)
        vectors = unit(np.array([step.activations for step in outcome.steps], np.float32))
        adapters = self.loops.adapters
        micro, base = adapters.micro.delta(asked), adapters.base.delta(0, asked)
        evidence = self.votes.look_up(asked) if self.config.use_votes else None
        taken, passed = self._evidence_rows(evidence, [step.ref or "" for step in outcome.steps])
        is_known = evidence is not None and evidence.is_known
        return ShownList(vectors @ asked, taken, passed, vectors @ micro, vectors @ base, is_known)

    def _evidence_rows(self, evidence: Evidence | None, items: Sequence[str]) -> tuple[Floats, Floats]:
        if evidence is None:
            empty = np.zeros((len(items), self.votes.bin_count), np.float32)
            return empty, empty
        return evidence.rows(items)

    def learn(self, outcome: QueryTrajectory, *, text: str | None, replaces: Receipt | None) -> Receipt | None:
        """Learn from one finished request: calibration, votes, Loop A; return the vote memory's receipt.

        Args:
            outcome: The request, its steps and what they earned.
            text: The request in words, if it had any.
            replaces: What the vote memory recorded for the earlier version of an amended outcome.
        """
        if outcome.steps and all(step.reward is not None for step in outcome.steps):
            self._calibrate(outcome)
        if replaces is not None:
            self.votes.withdraw(replaces)
        receipt = self._vote(outcome, text)
        self.loops.on_trajectory(outcome)
        return receipt

    def _calibrate(self, outcome: QueryTrajectory) -> None:
        # A list counts once: amended, it is learned over again as long as no other list came since.
        worths = [_worth(step.reward or 0.0, self.config.quality_threshold) for step in outcome.steps]
        rewards = np.array(worths, np.float32)
        earlier = outcome.supersedes
        try:
            if earlier is not None and any(step.reward is not None for step in earlier.steps):
                self.calibrator.amend(rewards, key=outcome.id)
            else:
                self.calibrator.learn(self.shown(outcome), rewards, key=outcome.id)
        except LearningError:
            self.rejected_lists += 1

    def learn_trajectory(self, trajectory: QueryTrajectory) -> InstantResult:
        """Learn from a request that was served elsewhere: votes of the steps that name an item, Loop A."""
        result = self.loops.on_trajectory(trajectory)
        self._vote(trajectory, None)
        return result

    def _vote(self, outcome: QueryTrajectory, text: str | None) -> Receipt | None:
        showings = _showings(outcome, self.calibrator.weights.examined, self.config.quality_threshold)
        if not showings or not self.config.use_votes:
            return None
        return self.votes.record(outcome.query_embedding, showings, text, subject=outcome.subject)

    def checkpoint(self) -> LearnerCheckpoint:
        """Return everything that decides answers now, to come back to; patterns and waiting requests go on."""
        return LearnerCheckpoint(self.loops.checkpoint(), self.votes.checkpoint(), self.calibrator.checkpoint())

    def restore(self, checkpoint: LearnerCheckpoint) -> None:
        """Answer as at `checkpoint` again."""
        self.loops.restore(checkpoint.loops)
        self.votes.restore(checkpoint.votes)
        self.calibrator.restore(checkpoint.calibration)

    def reembedded(self, hidden_dim: int, vector_of: Mapping[str, Floats]) -> Learner:
        """Return a learner for vectors of another embedder: votes of requests with words stay, the rest starts anew.

        Args:
            hidden_dim: Width of the new vectors.
            vector_of: Vectors of the requests by their words, each of shape (d,).
        """
        learner = Learner(hidden_dim, self.config)
        learner.votes = self.votes.moved(hidden_dim, vector_of)
        learner.loops.go_on_after(self.loops)
        learner.rejected_lists = self.rejected_lists
        return learner

    def rehearse(self, change: BackgroundChange, held_out: Sequence[QueryTrajectory], alpha: float) -> Rehearsal:
        """Return how a cycle's change does on lists that were never learned from, against what is in force.

        Args:
            change: What the cycle computed.
            held_out: Lists with what was taken of them.
            alpha: Level of the test.
        """
        weights = self.calibrator.weights
        adapters = self.loops.adapters
        candidate = adapters.base if change.base is None else change.base
        base = np.float32(weights.base)
        lists = []
        for trajectory in held_out:
            if not trajectory.steps or trajectory.hidden_dim != self.hidden_dim:
                continue  # nothing was found to show, or it is of another embedder
            asked = unit(trajectory.query_embedding)
            vectors = unit(np.array([step.activations for step in trajectory.steps], np.float32))
            micro = np.float32(weights.micro) * adapters.micro.delta(asked)
            now = asked + micro + base * adapters.base.delta(0, asked)
            then = asked + base * candidate.delta(0, asked)
            rewards = [_worth(step.reward or 0.0, self.config.quality_threshold) for step in trajectory.steps]
            lists.append(RehearsedList(vectors @ now, vectors @ then, np.array(rewards, np.float32)))
        return rehearse(lists, weights.examined, alpha=alpha)

    def state(self) -> State:
        """Return everything learned."""
        return State(
            {
                "hidden_dim": self.hidden_dim,
                "loops": self.loops.state(),
                "votes": self.votes.state(),
                "calibration": self.calibrator.state(),
                "rejected_lists": self.rejected_lists,
            }
        )

    @classmethod
    def from_state(cls, state: State, config: SonaConfig) -> Learner:
        """Return the learner that `state` was taken from.

        Raises:
            StoreError: the state is incomplete, damaged or of another width.
        """
        learner = cls(state.whole("hidden_dim"), config)
        learner.loops = LoopCoordinator.from_state(state.child("loops"), config.instant(), config.background())
        learner.votes = VoteMemory.from_state(state.child("votes"), config.votes)
        learner.calibrator = Calibrator.from_state(state.child("calibration"), config.votes)
        learner.rejected_lists = state.whole("rejected_lists")
        if learner.micro.hidden_dim != learner.hidden_dim or learner.votes.hidden_dim != learner.hidden_dim:
            raise StoreError("saved state: the parts of the learner differ in width")
        return learner


def _base_rank(config: SonaConfig, hidden_dim: int) -> int:
    # The default fits any width; a rank that somebody chose is never changed behind their back.
    rank = config.base_lora_rank
    if rank > hidden_dim and rank != SonaConfig().base_lora_rank:
        raise ConfigError(f"base_lora_rank: expected at most the width of embeddings, {hidden_dim}, got {rank}")
    return min(rank, hidden_dim)


def _ewc_config(config: SonaConfig, param_count: int) -> EwcConfig:
    if config.ewc is None:
        return EwcConfig(param_count=param_count, learning_rate=config.micro_lora_lr)
    if config.ewc.param_count != param_count:
        raise ConfigError(
            f"ewc.param_count: the micro adapter has {param_count} parameters, got {config.ewc.param_count}"
        )
    return config.ewc


def _voted(scores: Floats, evidence: Evidence, row_of: Mapping[str, int], weights: Weights) -> Floats:
    rows = np.fromiter(map(row_of.get, evidence.items, repeat(-1)), np.intp, len(evidence.items))
    found = np.flatnonzero((rows >= 0) & (rows < len(scores)))
    if not len(found):
        return scores
    rows = rows[found]
    shifted = scores.copy()
    shifted[rows] += weights.votes(evidence.taken[found], evidence.passed[found])
    return shifted


def _best(scores: Floats, k: int) -> Scored:
    # Best first; equal scores in the order the candidates came, so that a ranking never depends on chance.
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero(scores >= least)
    else:
        rows = np.arange(len(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")][:k]
    return Scored(rows, scores[rows])


def _worth(reward: float, floor: float) -> float:
    # A bad outcome never reinforces: below the threshold, an item was seen and not taken.
    return 0.0 if reward < floor else reward


def _showings(outcome: QueryTrajectory, examined: Floats, floor: float) -> list[Showing]:
    # What the vote memory may know: steps with an id and a reward; without any, the first is the answer.
    last = len(examined) - 1
    showings = [
        Showing(
            step.ref, _worth(step.reward, floor), float(examined[min(place, last)]) if outcome.alternatives else 1.0
        )
        for place, step in enumerate(outcome.steps)
        if step.ref is not None and step.reward is not None
    ]
    if showings or outcome.final_quality is None or not outcome.steps:
        return showings
    first = outcome.steps[0]
    return [] if first.ref is None else [Showing(first.ref, _worth(outcome.final_quality, floor))]
