"""Laws of the loops, over whatever order of requests, amendments and cycles hypothesis thinks of."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.statistics import RidgeStatistics
from sona.config import BackgroundConfig, EwcConfig, InstantConfig, PatternConfig
from sona.loops.adapters import LoopCheckpoint
from sona.loops.background import BackgroundLoop
from sona.loops.coordinator import LoopCoordinator
from sona.loops.instant import InstantLoop
from sona.loops.lessons import Teacher
from sona.patterns.bank import ReasoningBank
from sona.retention.ewc import EwcPlusPlus
from sona.state import State, digest
from sona.types import QueryTrajectory, TrajectoryStep

D, LISTS, SHOWN = 3, 5, 3
_RNG = np.random.default_rng(0)
ITEMS = _RNG.normal(size=(LISTS, SHOWN, D)).astype(np.float32)
QUERIES = _RNG.normal(size=(LISTS, D)).astype(np.float32)
SETTINGS = InstantConfig(), BackgroundConfig(min_trajectories=1, interval_s=0.0)

outcomes = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * SHOWN)
judgements = st.tuples(st.integers(0, LISTS - 1), outcomes)
cycles = st.sampled_from(["commit", "reject", "forget", "restart", "keep", "return"])
histories = st.lists(judgements | cycles, max_size=25)


def loops() -> LoopCoordinator:
    micro = MicroLoRA(D, 1)
    ewc = EwcPlusPlus(EwcConfig(param_count=micro.param_count))
    bank = ReasoningBank(PatternConfig(min_cluster_size=2), hidden_dim=D)
    background = BackgroundLoop(bank, BaseLoRA(D, 2, 1), ewc, SETTINGS[1])
    return LoopCoordinator(InstantLoop(micro, ewc, SETTINGS[0]), background)


def judged(number: int, rewards: tuple[float, ...], earlier: QueryTrajectory | None) -> QueryTrajectory:
    steps = tuple(TrajectoryStep(ITEMS[number, row], reward=reward) for row, reward in enumerate(rewards))
    before = None if earlier is None else replace(earlier, supersedes=None)
    return QueryTrajectory(number, QUERIES[number], steps, alternatives=True, supersedes=before)


class History:
    """Loops, and beside them what they should have learned."""

    def __init__(self) -> None:
        self.loops = loops()
        self.last: dict[int, QueryTrajectory] = {}
        self.waiting: dict[int, QueryTrajectory] = {}
        self.learned: dict[int, QueryTrajectory] = {}
        self.kept = self.loops.checkpoint(), self.learned

    def goes_on(self, event) -> None:
        if isinstance(event, tuple):
            number, rewards = event
            trajectory = judged(number, rewards, self.last.get(number))
            self.last[number] = self.waiting[number] = trajectory
            self.loops.on_trajectory(trajectory)
        elif event == "restart":
            self.loops = LoopCoordinator.from_state(self.loops.state(), *SETTINGS)
            self.kept = LoopCheckpoint.from_state(self.kept[0].state()), self.kept[1]
        elif event == "keep":
            self.kept = self.loops.checkpoint(), self.learned
        elif event == "return":
            self.loops.restore(self.kept[0])
            self.learned = self.kept[1]
        else:
            change = self.loops.compute(self.loops.begin(now=0.0))
            if event == "commit":
                version = self.loops.background.version
                result = self.loops.commit(change, now=0.0)
                assert result.skipped_reason is not None or result.version == version + 1
                self.learned = self.learned | self.waiting
            elif event == "reject":
                self.loops.reject(change, now=0.0)
            if event != "forget":
                self.waiting = {}


def sums(statistics: RidgeStatistics) -> np.ndarray:
    state = statistics.state()
    return np.concatenate([state.doubles("gram", D, D), state.doubles("cross", D, D)])


def of(trajectories) -> RidgeStatistics:
    statistics = RidgeStatistics(D)
    alone = [replace(one, supersedes=None) for one in trajectories]
    Teacher(SETTINGS[1], 10).accumulate(statistics, alone, {}, baseline=0.5)
    return statistics


@settings(max_examples=60, deadline=None)
@given(histories)
def test_the_sums_are_those_of_the_last_version_learned_of_each_request_and_nothing_else(events):
    history = History()
    for event in events:
        history.goes_on(event)
    statistics = history.loops.background.statistics
    wanted = of(history.learned.values())
    assert statistics.count == wanted.count
    np.testing.assert_allclose(sums(statistics), sums(wanted), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(histories)
def test_every_trajectory_is_learned_from_discarded_or_waits(events):
    history = History()
    for event in events:
        history.goes_on(event)
    background = history.loops.background
    given_ = sum(isinstance(event, tuple) for event in events)
    assert background.learned_count + background.discarded_count + history.loops.waiting_count == given_
    assert background.rejected_count <= events.count("reject")


@settings(max_examples=40, deadline=None)
@given(histories, histories)
def test_a_cycle_that_comes_to_nothing_leaves_no_trace(events, more):
    tried, never = History(), History()
    for event in events:
        tried.goes_on(event)
        never.goes_on(event)
    tried.goes_on("forget")
    never.loops.begin(now=0.0)  # what Loop A recorded is handed over, whatever becomes of the cycle
    assert learned(tried.loops) == learned(never.loops)
    for event in more:
        tried.goes_on(event)
        never.goes_on(event)
    assert learned(tried.loops) == learned(never.loops)


def learned(loops: LoopCoordinator) -> str:
    """Return the digest of everything but when each loop ran."""
    return digest(State({name: value for name, value in loops.state().items() if name != "schedule"}))
