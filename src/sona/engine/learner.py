"""Everything learned, for vectors of one width: adapters, votes, links, their calibration, patterns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sona import kernel
from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.checks import Floats, setting_whole
from sona.config import EwcConfig, SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.choice import Choice, Scored, add_recalled, add_votes
from sona.errors import ConfigError, LearningError, StoreError
from sona.guard.rehearsal import Rehearsal, RehearsedList, rehearse
from sona.loops.adapters import LoopCheckpoint
from sona.loops.background import BackgroundChange, BackgroundLoop
from sona.loops.coordinator import LoopCoordinator
from sona.loops.instant import InstantLoop, InstantResult
from sona.loops.schedule import Schedule
from sona.memory.associate import AssociativeMemory
from sona.memory.calibrate import CalibrationCheckpoint, Calibrator, ShownList, Weights
from sona.memory.recall import PublishedLinks, Seeds, links_from_state, links_state
from sona.memory.votes import Evidence, Receipt, Showing, VoteCheckpoint, VoteMemory, unit
from sona.patterns.bank import ReasoningBank
from sona.retention.ewc import EwcPlusPlus
from sona.state import State
from sona.types import QueryTrajectory

_choice = kernel.maker(Choice)


@dataclass(frozen=True, slots=True, eq=False)
class LearnerCheckpoint:
    """Everything that decides answers at one moment; shares what is immutable."""

    loops: LoopCheckpoint
    votes: VoteCheckpoint
    calibration: CalibrationCheckpoint
    links: PublishedLinks | None = None

    def state(self) -> State:
        """Return it as a state tree."""
        parts = {"loops": self.loops.state(), "votes": self.votes.state(), "calibration": self.calibration.state()}
        return State({**parts, "published": links_state(self.links)})

    @classmethod
    def from_state(cls, state: State) -> LearnerCheckpoint:
        """Return the checkpoint that `state` was taken from, or raise StoreError."""
        return cls(
            LoopCheckpoint.from_state(state.child("loops")),
            VoteCheckpoint.from_state(state.child("votes")),
            CalibrationCheckpoint.from_state(state.child("calibration")),
            links_from_state(state.child("published")),
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
        self.loops = LoopCoordinator(
            InstantLoop(micro, ewc, config.instant()),
            background,
            config.deep_settings(),
            associations=AssociativeMemory(hidden_dim, config.graph),
            schedule=Schedule(config.schedule, config.background_interval_s, config.deep.interval_s),
        )
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
    def associations(self) -> AssociativeMemory:
        """What is linked with what."""
        return self.loops.associations

    @property
    def bank(self) -> ReasoningBank:
        """The patterns."""
        return self.loops.background.bank

    def adapt(self, x: Floats) -> Floats:
        """Return `x`, shape (d,) or (n, d), corrected by both adapters; untrained, `x` itself."""
        return self.loops.adapters.forward(x)

    def score(self, x: Floats, candidates: Candidates, k: int) -> Choice:
        """Return the best `k` candidates for the request `x`, shape (d,), frozen and learned.

        The learned score is the cosine, shifted by the adapters and the votes as far as each has earned it. Both
        cosines are found in one pass over the candidates, of which half counts as time spent on what was learned.
        """
        asked, weights = unit(x), self.calibrator.weights
        began = time.perf_counter()
        heading = self._heading(asked, weights)
        headed = time.perf_counter()
        plain, scores = candidates.cosines_of_two(asked, heading)
        compared = time.perf_counter()
        nearest = Scored.best(plain, max(k, self.config.graph.seeds))
        frozen = nearest.first(k)
        found = time.perf_counter()
        seeds = nearest.seeds(candidates.ids, self.config.graph.seeds) if self.config.use_graph else None
        is_moved = self._add_learned(scores, asked, candidates, seeds, weights)
        learned = Scored.best(scores, k) if is_moved or heading is not asked else frozen
        learning_s = time.perf_counter() - found + headed - began
        if heading is not asked:
            learning_s += (compared - headed) / 2.0
        return _choice(frozen, learned, learning_s * 1e6, seeds)

    def _heading(self, asked: Floats, weights: Weights) -> Floats:
        # The request itself where no adapter has earned anything.
        adapters = self.loops.adapters
        has_base = bool(weights.base) and adapters.base.layer(0) is not None
        if not (weights.micro or has_base):
            return asked
        heading = kernel.combined(asked, (adapters.micro.delta(asked),), (weights.micro,))
        if has_base and heading is not None:
            heading = kernel.combined(heading, (adapters.base.delta(0, asked),), (weights.base,))
        if heading is None:
            raise LearningError("the adapters' corrections are no plain vectors")
        return heading

    def _add_learned(
        self, scores: Floats, asked: Floats, candidates: Candidates, seeds: Seeds | None, weights: Weights
    ) -> bool:
        # False, and nothing added, when neither votes nor links say anything about the candidates.
        is_moved = False
        if self.config.use_votes:
            is_moved = add_votes(scores, self.votes.look_up(asked), candidates.row_of, weights)
        if seeds is not None and (weights.similar or weights.linked):
            recalled = self.associations.recall(seeds, candidates.ids, len(scores))
            is_moved = add_recalled(scores, recalled, weights) or is_moved
        return is_moved

    def shown(self, outcome: QueryTrajectory, seeds: Seeds | None = None) -> ShownList:
        """Return what calibration is to know of a list, as things are before the list is learned from.

        Args:
            outcome: The list.
            seeds: What its request activated.
        """
        asked = unit(outcome.query_embedding)
        vectors = _directions([step.activations for step in outcome.steps])
        adapters, count = self.loops.adapters, len(vectors)
        micro = _products(vectors, adapters.micro.delta(asked))
        has_base = adapters.base.layer(0) is not None
        base = _products(vectors, adapters.base.delta(0, asked)) if has_base else np.zeros(count, np.float32)
        evidence = self.votes.look_up(asked) if self.config.use_votes else None
        items = [step.ref or "" for step in outcome.steps]
        taken, passed = self._evidence_rows(evidence, items)
        is_known = evidence is not None and evidence.is_known
        activation = None if seeds is None else self.associations.activation(seeds, items)
        similar, linked = (None, None) if activation is None else activation
        return ShownList(_products(vectors, asked), taken, passed, micro, base, is_known, similar, linked)

    def _evidence_rows(self, evidence: Evidence | None, items: Sequence[str]) -> tuple[Floats, Floats]:
        if evidence is None:
            empty = np.zeros((len(items), self.votes.bin_count), np.float32)
            return empty, empty
        return evidence.rows(items)

    def learn(
        self,
        outcome: QueryTrajectory,
        *,
        at: float,
        text: str | None = None,
        replaces: Receipt | None = None,
        seeds: Seeds | None = None,
    ) -> Receipt | None:
        """Learn from one finished request: calibration, votes, links, Loop A; return the vote memory's receipt.

        Args:
            outcome: The request, its steps and what they earned.
            at: Seconds.
            text: The request in words, if it had any.
            replaces: What the vote memory recorded for the earlier version of an amended outcome.
            seeds: What the request activated in the memory graph.
        """
        self.loops.schedule.ran("instant", at)
        if not self.config.learns_instantly:
            self.loops.on_trajectory(outcome)
            return None
        if outcome.steps and all(step.reward is not None for step in outcome.steps):
            self._calibrate(outcome, seeds)
        if replaces is not None:
            self.votes.withdraw(replaces)
        receipt = self._vote(outcome, text)
        self._link(outcome, at)
        self.loops.on_trajectory(outcome)
        return receipt

    def _calibrate(self, outcome: QueryTrajectory, seeds: Seeds | None) -> None:
        # A list counts once: amended, it is learned over again as long as no other list came since.
        worths = [_worth(step.reward or 0.0, self.config.quality_threshold) for step in outcome.steps]
        rewards = np.array(worths, np.float32)
        earlier = outcome.supersedes
        try:
            if earlier is not None and any(step.reward is not None for step in earlier.steps):
                self.calibrator.amend(rewards, key=outcome.id)
            else:
                self.calibrator.learn(self.shown(outcome, seeds), rewards, key=outcome.id)
        except LearningError:
            self.rejected_lists += 1

    def learn_trajectory(self, trajectory: QueryTrajectory, *, at: float) -> InstantResult:
        """Learn from a request that was served elsewhere: votes and links of the steps that name an item, Loop A."""
        self.loops.schedule.ran("instant", at)
        result = self.loops.on_trajectory(trajectory)
        if self.config.learns_instantly and trajectory.names_items:
            self._vote(trajectory, None)
            self._link(trajectory, at)
        return result

    def _link(self, outcome: QueryTrajectory, at: float) -> None:
        # Amended, an outcome strengthens what it names anew; what it strengthened before fades by itself.
        if not self.config.use_graph:
            return
        showings = _showings(outcome, np.ones(1, np.float32), self.config.quality_threshold)
        before = outcome.supersedes
        if before is not None:
            known = {step.ref for step in before.steps if step.reward}
            showings = [showing for showing in showings if showing.reward > 0.0 and showing.item not in known]
        if showings:
            vectors = {step.ref or "": step.activations for step in outcome.steps}
            self.associations.record(vectors, showings, now=at)

    def _vote(self, outcome: QueryTrajectory, text: str | None) -> Receipt | None:
        showings = _showings(outcome, self.calibrator.weights.examined, self.config.quality_threshold)
        if not showings or not self.config.use_votes:
            return None
        return self.votes.record(outcome.query_embedding, showings, text, subject=outcome.subject)

    def checkpoint(self) -> LearnerCheckpoint:
        """Return everything that decides answers now, to come back to; patterns and waiting requests go on."""
        votes, calibration = self.votes.checkpoint(), self.calibrator.checkpoint()
        return LearnerCheckpoint(self.loops.checkpoint(), votes, calibration, self.associations.links)

    def restore(self, checkpoint: LearnerCheckpoint) -> None:
        """Answer as at `checkpoint` again."""
        self.loops.restore(checkpoint.loops)
        self.votes.restore(checkpoint.votes)
        self.calibrator.restore(checkpoint.calibration)
        self.associations.links = checkpoint.links

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
        learner.loops = LoopCoordinator.from_state(
            state.child("loops"),
            config.instant(),
            config.background(),
            settings=config.deep_settings(),
            graph=config.graph,
            schedule=config.schedule,
        )
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


def _directions(vectors: list[Floats]) -> Floats:
    found = kernel.units(vectors)
    return unit(np.array(vectors, np.float32)) if found is None else found


def _products(vectors: Floats, x: Floats) -> Floats:
    found = kernel.products(vectors, x)
    return vectors @ x if found is None else found


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
