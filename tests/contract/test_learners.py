"""Every learner comes back from disk bit for bit, goes on as before, and refuses a state that is not its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from sona.adapters.base_lora import BaseLoRA
from sona.adapters.micro_lora import MicroLoRA
from sona.adapters.signal import LearningSignal, RunningBaseline
from sona.adapters.statistics import RidgeStatistics
from sona.config import BoundaryConfig, DagConfig, EwcConfig, PatternConfig, SonaConfig, TunerConfig
from sona.engine.core import SonaEngine
from sona.engine.events import Begun, CycleBegun, CycleEnded, Judged, Serving, Submitted
from sona.engine.intake import Intake
from sona.engine.judgement import Judgement
from sona.engine.learner import Learner, LearnerCheckpoint
from sona.engine.machine import Machine
from sona.engine.memories import Memories
from sona.engine.served import Served, ServedRequests
from sona.engine.versions import Versions
from sona.engine.words import Words
from sona.errors import SonaError, StoreError
from sona.guard.holdout import Arm
from sona.loops.adapters import LoopCheckpoint
from sona.loops.background import BackgroundLoop
from sona.loops.coordinator import LoopCoordinator
from sona.loops.deep import DeepLoop
from sona.loops.deep_cycle import Progress
from sona.loops.instant import InstantLoop
from sona.memory.associate import AssociativeMemory
from sona.memory.calibrate import CalibrationCheckpoint, Calibrator, ShownList
from sona.memory.consolidate import ConsolidationPlan, Merge, Removal
from sona.memory.graph import MemoryGraph
from sona.memory.nodes import EdgeKind, MemoryNode
from sona.memory.opinions import Opinions
from sona.memory.recall import PublishedLinks, Seeds
from sona.memory.votes import Showing, VoteCheckpoint, VoteMemory
from sona.patterns.bank import ReasoningBank
from sona.patterns.hierarchy import Hierarchy, arrange
from sona.retention.boundary import BoundaryDetector
from sona.retention.ewc import EwcPlusPlus
from sona.state import State, digest, read_state, write_state
from sona.text.embed import LsaEmbedder
from sona.trajectory import TrajectoryBuffer, TrajectoryIds
from sona.tuner.dag.bandit import UcbTuned
from sona.tuner.dag.bank import DagReasoningBank
from sona.tuner.dag.engine import DagSonaEngine
from sona.tuner.dag.micro import DagMicroLoRA
from sona.tuner.dag.selector import AttentionSelector
from sona.tuner.dag.trajectories import DagTrajectoryBuffer
from sona.tuner.execution import AttentionType, ExecutionMetrics, ExecutionParams
from sona.tuner.plans.plan import NeuralDagPlan
from sona.tuner.searches.checks import ArmRun, SearchCheck, SearchKey
from sona.tuner.searches.policy import SearchPolicy
from sona.tuner.tuner import Tuner
from sona.types import Context, QueryTrajectory, TrajectoryStep

D = 4
_RNG = np.random.default_rng(0)
ITEMS = _RNG.normal(size=(10, D)).astype(np.float32)
QUERIES = _RNG.normal(size=(30, D)).astype(np.float32)
IDS = tuple(f"d{row}" for row in range(10))
PATTERNS = PatternConfig(min_cluster_size=2, k_clusters=4)
BOUNDARY = BoundaryConfig(reference_size=8, window_size=4, null_splits=8)
CONFIG = SonaConfig(hidden_dim=D, min_trajectories=2, patterns=PATTERNS)


def trajectory(number: int, width: int = D, *, supersedes: QueryTrajectory | None = None) -> QueryTrajectory:
    steps = tuple(
        TrajectoryStep(ITEMS[(number + i) % 10, :width], reward=reward, ref=IDS[(number + i) % 10])
        for i, reward in enumerate((1.0, 0.0))
    )
    query = QUERIES[number % 30, :width]
    return QueryTrajectory(number, query, steps, 0.9, 5.0, True, "route", ("c",), "me", {"t": 0.5}, supersedes)


def sequence(number: int, width: int = D) -> QueryTrajectory:
    step = TrajectoryStep(ITEMS[number % 10, :width])
    return QueryTrajectory(number, QUERIES[number % 30, :width], (step,), number % 2)


# -- one maker and one behaviour per learner -------------------------------------------------------------------------


def micro(width: int = D) -> MicroLoRA:
    made = MicroLoRA(width, 2, seed=5, trust_region=0.4)
    for number in range(3):
        signal = LearningSignal.with_gradient(QUERIES[number, :width], ITEMS[number, :width], 1.0)
        made.accumulate_gradient(signal)
        if number < 2:
            made.apply_accumulated(0.1)
    made.accumulate_gradient(LearningSignal.with_gradient(QUERIES[0, :width], np.zeros(width)))
    return made


def use_micro(made: MicroLoRA) -> list[object]:
    made.accumulate_gradient(LearningSignal.with_gradient(QUERIES[5], ITEMS[5]))
    made.apply_accumulated(0.2)
    return [made.forward(QUERIES).tobytes(), made.applied_count, made.skipped_count, made.trust_region]


def statistics(width: int = D) -> RidgeStatistics:
    made = RidgeStatistics(width)
    made.add(QUERIES[:10, :width], ITEMS[:, :width], 0.7)
    return made


def use_statistics(made: RidgeStatistics) -> list[object]:
    made.subtract(QUERIES[:2], ITEMS[:2], 0.7)
    return [made.solve(1.0).tobytes(), made.count, made.total_weight]


def base(width: int = D) -> BaseLoRA:
    made = BaseLoRA(width, 2, 3, alpha=4.0)
    made.fit_layer(1, statistics(width))
    return made


def baseline() -> RunningBaseline:
    made = RunningBaseline(0.3, 2.0, 0.9)
    made.update(0.7)
    return made


def ewc(width: int = D, **more: object) -> EwcPlusPlus:
    made = EwcPlusPlus(EwcConfig(param_count=4 * width, boundary=BOUNDARY, **more))
    rng = np.random.default_rng(1)
    for _ in range(2):
        made.update_fisher(rng.normal(size=(3, 4 * width)))
        made.start_new_task(rng.normal(size=4 * width), 1.0)
    made.update_fisher(rng.normal(size=(3, 4 * width)))
    made.detect_task_boundary(rng.normal(size=(30, width)), rng.uniform(size=30), rng=rng)
    made.adapt_strength(1.0)
    return made


def use_ewc(made: EwcPlusPlus) -> list[object]:
    found = made.detect_task_boundary(QUERIES + 5.0, np.ones(30), rng=np.random.default_rng(3))
    made.update_fisher(np.ones(4 * D))
    made.start_new_task(np.ones(4 * D))
    moved = made.apply_constraints(np.ones(4 * D), np.zeros(4 * D))
    return [repr(found), moved.tobytes(), made.strength, made.task_count]


def boundary(width: int = D) -> BoundaryDetector:
    made = BoundaryDetector(BOUNDARY)
    rng = np.random.default_rng(2)
    made.observe(rng.normal(size=(30, width)), rng.uniform(size=30), rng=rng)
    return made


def use_boundary(made: BoundaryDetector) -> list[object]:
    rng = np.random.default_rng(4)
    return [repr(made.observe(QUERIES + shift, np.full(30, shift), rng=rng)) for shift in (0.0, 9.0)]


def bank(width: int = D) -> ReasoningBank:
    made = ReasoningBank(PATTERNS, hidden_dim=width)
    for number in range(20):
        made.add_trajectory(trajectory(number, width))
    made.extract_patterns(now=1.0, rng=np.random.default_rng(0))
    made.add_trajectory(trajectory(21, width))
    made.find_similar(QUERIES[0, :width], 2, now=2.0)
    return made


def use_bank(made: ReasoningBank) -> list[object]:
    made.add_trajectory(trajectory(3, supersedes=trajectory(3)))
    made.add_trajectory(trajectory(22))
    result = made.extract_patterns(now=3.0, rng=np.random.default_rng(1))
    found = [(m.pattern.id, m.similarity, m.pattern.access_count) for m in made.find_similar(QUERIES[1], 5, now=4.0)]
    return [repr(result), found, repr(made.verdicts())]


def votes(width: int = D) -> VoteMemory:
    made = VoteMemory(width)
    for number in range(5):
        showings = [Showing("a", 1.0), Showing(IDS[number], 0.0, 0.3)]
        subject = f"u{number % 2}" if number else None
        made.record(QUERIES[number % 4, :width], showings, f"text {number}" if number % 2 else None, subject=subject)
    return made


def use_votes(made: VoteMemory) -> list[object]:
    made.record(QUERIES[1], [Showing("c", 0.5)], subject="u1")
    receipt = made.record(QUERIES[9], [Showing("b", 0.5)])
    evidence = [made.look_up(x) for x in QUERIES]
    made.withdraw(receipt)
    return [receipt.number, [(e.items, e.taken.tobytes(), e.passed.tobytes(), e.is_known) for e in evidence]]


def graph(width: int = D) -> MemoryGraph:
    made = MemoryGraph(width)
    for number in range(6):
        sources = ("old",) if number == 2 else ()
        text = f"text {number}" if number % 2 else None
        made.add(MemoryNode(IDS[number], ITEMS[number, :width], text, provenance=sources))
    made.link([0, 1, 2], [3, 2, 5], EdgeKind.SIMILAR, [0.5, 0.25, 0.125])
    made.connect(IDS[0], IDS[4], EdgeKind.DREAM, 0.1)
    made.decay(keep_edge=0.9, keep_dream=0.5, min_weight=0.01)
    made.served({IDS[0]: 1.0, IDS[1]: 0.5}, [IDS[4]], now=3.0)
    return made


def use_graph(made: MemoryGraph) -> list[object]:
    made.served({IDS[0]: 0.5, IDS[4]: 1.0}, [IDS[2]], now=4.0)
    answers: list[object] = [
        made.activate([0, 2], [1.0, 2.0]).tobytes(),
        made.qualities.tobytes(),
        made.node(IDS[2]).id,
    ]
    answers += [made.merged([(IDS[1], IDS[0])]), made.decay(keep_edge=0.5, keep_dream=0.5, min_weight=0.01)]
    return [*answers, made.edge(IDS[1], IDS[4]), made.provenance(IDS[1]), made.adjacency().weights.tobytes()]


def shown(number: int) -> ShownList:
    rng = np.random.default_rng(number)
    columns = [rng.uniform(size=5).astype(np.float32) for _ in range(3)]
    tables = [rng.uniform(size=(5, 6)).astype(np.float32) for _ in range(2)]
    return ShownList(columns[0], *tables, *columns[1:], bool(number % 2))


def calibrator() -> Calibrator:
    made = Calibrator()
    for number in range(6):
        made.learn(shown(number), np.eye(5, dtype=np.float32)[number % 5], key=number)
    return made


def use_calibrator(made: Calibrator) -> list[object]:
    made.amend(np.eye(5, dtype=np.float32)[3], key=5)
    made.learn(shown(9), np.eye(5, dtype=np.float32)[2])
    return [made.weights.votes(shown(1).taken, shown(1).passed).tobytes(), made.gains, made.weights.examined.tobytes()]


def instant(width: int = D) -> InstantLoop:
    made = InstantLoop(MicroLoRA(width, 2))
    for number in range(4):
        made.on_trajectory(trajectory(number, width) if number % 2 else sequence(number, width))
    return made


def use_instant(made: InstantLoop) -> list[object]:
    made.on_trajectory(sequence(9))
    return [made.micro.forward(QUERIES).tobytes(), made.metrics(), made.baseline.value]


def background(width: int = D) -> BackgroundLoop:
    made = BackgroundLoop(ReasoningBank(PATTERNS, hidden_dim=width), BaseLoRA(width, 2, 2), ewc(width))
    made.add(trajectory(number, width) for number in range(12))
    adapter = MicroLoRA(width, 2)
    made.commit(made.run_cycle(adapter, force=True), adapter)
    made.add([trajectory(12, width)])
    return made


def use_background(made: BackgroundLoop) -> list[object]:
    adapter = MicroLoRA(D, 2)
    made.add([trajectory(13), trajectory(3, supersedes=trajectory(3))])
    result = made.commit(made.run_cycle(adapter, force=True, now=5.0), adapter)
    return [repr(result), made.base.forward_layer(0, QUERIES).tobytes(), made.learned_count]


def coordinator(width: int = D) -> LoopCoordinator:
    made = LoopCoordinator(instant(width), background(width))
    made.tick(5.0)
    made.run_background(now=6.0, force=True)
    made.on_trajectory(sequence(14, width))
    return made


def use_coordinator(made: LoopCoordinator) -> list[object]:
    made.on_trajectory(sequence(15))
    ticked = made.tick(7.0)
    result = made.run_background(now=8.0, force=True)
    return [repr(ticked), repr(result), made.adapters.forward(QUERIES).tobytes()]


def associations(width: int = D) -> AssociativeMemory:
    made = AssociativeMemory(width)
    made.join(IDS[:8], ITEMS[:8, :width], now=1.0)
    made.join(["twin"], ITEMS[:1, :width], now=1.0)
    made.link(40)
    for number in range(3):
        showings = [Showing(IDS[number], 1.0), Showing(IDS[number + 1], 0.5), Showing(IDS[9], 0.0)]
        made.record({one.item: ITEMS[int(one.item[1:]), :width] for one in showings}, showings, now=2.0)
    made.publish()
    made.graph.merged([(IDS[0], "twin")])
    return made


def use_associations(made: AssociativeMemory) -> list[object]:
    seeds = Seeds((IDS[1], IDS[3]), np.array([0.9, 0.8], np.float32))
    answers: list[object] = [made.activation(seeds, IDS).tobytes(), made.unlinked, made.graph.heir("twin")]
    showings = [Showing("twin", 1.0), Showing(IDS[6], 1.0)]
    made.record({"twin": ITEMS[0], IDS[6]: ITEMS[6]}, showings, now=3.0)
    answers += [made.link(10**6), made.graph.ids, made.graph.edges().weights.tobytes()]
    made.publish()
    return [*answers, made.recall(seeds, IDS, 9).values.tobytes()]


def use_links(made: PublishedLinks) -> list[object]:
    seeds = Seeds((IDS[1], IDS[3]), np.array([0.9, 0.8], np.float32))
    config = SonaConfig().graph
    return [made.activation(seeds, IDS, config).tobytes(), made.places_in(IDS).recall(seeds, 5, config).rows.tobytes()]


def consolidation() -> ConsolidationPlan:
    return ConsolidationPlan((Merge("a", "b", 0.99),), (Removal("c", 0.05), Removal("d", 0.07)), 0.001, 4)


def deep() -> DeepLoop:
    made, memory, bank_ = DeepLoop(), associations(), bank()
    for units in (None, 2):  # a whole cycle, and one that is cut short
        change = made.compute(made.begin(memory, bank_, now=5.0, force=True), units=units)
        made.commit(change, memory, bank_)
    return made


def use_deep(made: DeepLoop) -> list[object]:
    memory, bank_ = associations(), bank()
    result = made.commit(made.compute(made.begin(memory, bank_, now=6.0, force=True)), memory, bank_)
    return [result, made.progress, made.phi, made.hierarchy.levels, digest(memory.state())]


def buffer() -> TrajectoryBuffer:
    made = TrajectoryBuffer(3)
    for number in range(5):
        made.record(trajectory(number, supersedes=trajectory(number)))
    return made


def use_buffer(made: TrajectoryBuffer) -> list[object]:
    taken = made.drain_n(2)
    return [made.record(trajectory(9)), len(made), made.success_rate, [t.id for t in taken], taken[0].parameters]


def ids() -> TrajectoryIds:
    made = TrajectoryIds(7)
    made.next()
    return made


def embedder() -> LsaEmbedder:
    made = LsaEmbedder(D, 3)
    made.fit(["a red house", "a blue house", "the green garden", "a garden with a house"])
    made.refit(["a red house", "a blue sky", "the green garden", "a garden with a house", "one more"])
    return made


def memories() -> Memories:
    made = Memories()
    for number in range(4):
        made.add(f"text {number}", f"id{number}", QUERIES[number] if number % 2 else None)
    made.publish(made.embedded(lambda texts: QUERIES[: len(texts)]).vectors)
    made = made.without({"id2": "id1", "id0": None})
    made.add("text 4")
    return made


def use_memories(made: Memories) -> list[object]:
    made.add("text 2", "id0")
    made.add("text 6", "id2")  # it was merged, and is a memory of its own again
    made.add("text 5")
    made.publish(made.embedded(lambda texts: QUERIES[: len(texts)], anew=True).vectors)
    return [made.ids, made.texts, made.vectors.tobytes()]


def engine(width: int = D) -> SonaEngine:
    made = SonaEngine(
        SonaConfig(hidden_dim=width, min_trajectories=2, patterns=PATTERNS), embedder=_lengths(width), clock=_clock
    )
    made.remember("a red house", "house")
    made.remember("the green garden", vector=np.ones(width))
    items = ITEMS[:, :width]
    for number in range(8):
        ranking = made.rank(QUERIES[number, :width], IDS, items, k=4, context=Context(user_id="me"))
        if number % 2:
            made.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    made.feedback(made.process("a house?").trajectory_id, quality=0.8)
    made.feedback(2, rewards={})
    made.background_learn()
    made.feedback(4, quality=0.2)
    return made


def _lengths(width: int) -> Callable[[list[str]], list[list[float]]]:
    return lambda texts: [[1.0, len(text) / 20.0, *[0.5] * (width - 2)] for text in texts]


def _clock() -> float:
    return 77.0


def use_engine(made: SonaEngine) -> list[object]:
    answers: list[object] = [made.metrics(), made.adapt(QUERIES).tobytes()]
    for number in range(10, 14):
        ranking = made.rank(QUERIES[number], IDS, ITEMS, k=4)
        answers += [ranking, made.feedback(ranking.trajectory_id, rewards={ranking.ids[2]: 1.0})]
    response = made.process("a garden?")
    answers += [response.text, response.sources, response.patterns_used, response.trajectory_id]
    answers += [made.feedback(3, quality=0.9), made.feedback(4, quality=0.9), made.tick()]
    result = made.background_learn(force=True)
    return [*answers, result.version, result.trajectories, made.adapt(QUERIES).tobytes(), made.metrics()]


def read_engine(state: State) -> SonaEngine:
    with patch("sona.engine.durable.read_state", return_value=state):  # the file itself has its own tests
        return SonaEngine.load("engine", embedder=_lengths(D), clock=_clock)


def served() -> ServedRequests:
    return engine()._intake.served


def use_served(made: ServedRequests) -> list[object]:
    answers = [(one.text, one.served_at, one.receipt) for one in (made.get(n) for n in (1, 2, 3, 9)) if one]
    return [*answers, made.awaiting_count, made.expire(1e9), made.unanswered_count]


def use_intake(made: Intake) -> list[object]:
    return [made.ids.next(), made.counts, made.submit(999), made.submit(999), made.ids.next(), use_served(made.served)]


def learner(width: int = D) -> Learner:
    made = engine(width)._learner
    if made is None:
        raise TypeError("the engine has no learner")
    return made


def use_learner(made: Learner) -> list[object]:
    made.learn(trajectory(50), at=1.0, text=None, replaces=None)
    return [made.adapt(QUERIES).tobytes(), made.loops.waiting_count, made.votes.look_up(QUERIES[0]).items]


def use_learner_checkpoint(made: LearnerCheckpoint) -> list[object]:
    one = Learner(D, CONFIG)
    one.restore(made)
    return [one.calibrator.gains, *use_learner(one)]


def use_versions(made: Versions) -> list[object]:
    one = learner()
    made.go_back(one, 1)
    answers: list[object] = [one.adapt(QUERIES).tobytes(), made.listed, made.kept, made.sound_before(1, bool)]
    made.decide(3.0, "rolled back", 0, "a reason")
    made.go_back(one, 0)
    return [*answers, made.in_force, len(made.decisions), len(made.told()), one.adapt(QUERIES).tobytes()]


def judgement() -> Judgement:
    made = engine()._machine.judgement
    made.hold_out(trajectory(70))
    return made


def use_judgement(made: Judgement) -> list[object]:
    asked = Served(trajectory(71), None, 1.0, Serving(Arm.FROZEN, 0.5, True, True, False, 0))
    told = made.hear(asked, asked.trajectory, "me", None, 2.0)
    return [told, made.guard.report(), *use_versions(made.versions)]


def use_machine(made: Machine) -> list[object]:
    for event in (Begun(8.0, 90), Submitted(9.0, trajectory(90)), Judged(9.0, 3, 0.9), CycleBegun(10.0, force=True)):
        made.apply(event)
    made.apply(CycleEnded(11.0), 55)
    return [made.intake.counts, made.versions.listed[-1].seq, made.versions.in_force, *use_learner(made.learner)]


def read_machine(state: State) -> Machine:
    words = Words.from_state(state.child("words"), CONFIG, _lengths(D), None)
    return Machine.from_state(state, CONFIG, words)


def use_loop_checkpoint(made: LoopCheckpoint) -> list[object]:
    loops = coordinator()
    loops.restore(made)
    return use_coordinator(loops)


def use_vote_checkpoint(made: VoteCheckpoint) -> list[object]:
    memory = VoteMemory(D)
    memory.restore(made)
    return use_votes(memory)


def use_calibration_checkpoint(made: CalibrationCheckpoint) -> list[object]:
    one = Calibrator()
    one.restore(made)
    return use_calibrator(one)


DAG = DagConfig(hidden_dim=16, min_trajectories=4, micro_learning_rate=0.5, adapts=True)
LONG = ExecutionMetrics(9e3, 10.0, 8e3, 3, 4096, 0.5, 0.25)


def a_plan(table: str, width: int = 16) -> NeuralDagPlan:
    node = {"Node Type": "Seq Scan", "Relation Name": table, "Plan Rows": 10, "Plan Width": 4}
    document = [{"Plan": {**node, "Startup Cost": 0.0, "Total Cost": 1.5}}]
    return NeuralDagPlan.from_explain(document, config=DagConfig(hidden_dim=width))


def dag(width: int = 16) -> DagSonaEngine:
    made = DagSonaEngine(replace(DAG, hidden_dim=width))
    numbers = ExecutionParams(80, 2, 0, custom={"work_mem": "64MB"})
    for number in range(12):
        told = a_plan(f"t{number % 3}", width)
        made.post_query(told, LONG, params=(numbers, ExecutionParams())[number % 2], baseline_us=5e4, now=number)
        if number == 8:
            made.run_background_cycle(now=9.0)
    made.post_query(a_plan("t0", width), LONG, fingerprint="f", trajectory_id=50)
    return made


def use_dag(made: DagSonaEngine) -> list[object]:
    answers: list[object] = [made.post_query(a_plan("t4"), LONG, trajectory_id=50), made.pre_query(a_plan("t0"))]
    answers += [repr(made.run_background_cycle(force=True, now=20.0)), made.metrics(), made.pre_query(a_plan("t1"))]
    return [*answers, made.post_query(a_plan("t1"), LONG, baseline_us=5e4), made.adapter.forward(np.ones(16)).tobytes()]


def use_dag_bank(made: DagReasoningBank) -> list[object]:
    found = [(one.pattern_id, one.confidence, one.params) for one in made.find_similar(a_plan("t1").plan_embedding)]
    return [found, made.consolidate(-1.0), made.next_id, made.patterns[0].learned.cluster_size]


def use_dag_micro(made: DagMicroLoRA) -> list[object]:
    made.learn(LearningSignal.with_gradient(np.ones(16), np.eye(16)[0], 0.5))
    return [made.forward(np.ones(16)).tobytes(), made.ewc.fisher.tobytes()]


def use_dag_buffer(made: DagTrajectoryBuffer) -> list[object]:
    taken = made.drain_n(1)[0]
    return [made.record(taken), len(made), taken.metrics, taken.params, taken.fingerprint, made.drain()[-1].baseline_us]


def attention(width: int = 16) -> AttentionSelector:
    made = AttentionSelector(DAG)
    for number in range(9):
        made.update(f"p{number % 2}", tuple(AttentionType)[number % 7], number / 9.0)
    return made


def use_attention(made: AttentionSelector) -> list[object]:
    made.update("p0", AttentionType.CRITICAL_PATH, 0.25)
    return [made.best("p0"), *(made.select("p1", np.random.default_rng(seed)) for seed in range(5))]


def arms_pulled() -> UcbTuned:
    made = UcbTuned(3)
    for number in range(7):
        made.update(number % 3, number / 7.0)
    return made


def use_arms(made: UcbTuned) -> list[object]:
    made.update(1, 0.5)
    return [made.select(), list(made.counts), list(made.means)]


SEARCH = SearchKey("nearest", "python", limit=10, size=5000.0, fit=-7.0)


def searches() -> SearchPolicy:
    made = SearchPolicy()
    for number in range(12):
        choice = made.choose(SEARCH, np.random.default_rng(number))
        made.observe(SEARCH, choice.arm, 0.001)
        if choice.is_check:
            runs = tuple(ArmRun(arm.name, 0.3, 4, 0.001) for arm in made.arms_to_check(SEARCH))
            made.learn(SEARCH, SearchCheck(10, 0.009, runs))
    return made


def use_searches(made: SearchPolicy) -> list[object]:
    choice = made.choose(SEARCH, np.random.default_rng(5))
    made.observe(SEARCH, choice.arm, 0.002)
    return [choice, made.report()]


TUNING = TunerConfig(min_mean_s=0.0, dag=DAG)


def tuner() -> Tuner:
    made = Tuner(TUNING)
    for number in range(20):
        request = made.request(f"SELECT count(*) FROM a JOIN b USING (id) WHERE kind = {number % 4}", None)
        made.finish(request, made.choose(request), 0.02 + 0.001 * number)
        if number > 12:
            made.describe(request, a_plan("orders"), None, 0.0001)
    made.leave_alone(made.request("DELETE FROM a", None), 0.01)
    return made


def use_tuner(made: Tuner) -> list[object]:
    request = made.request("SELECT count(*) FROM a JOIN b USING (id) WHERE kind = 1", None)
    choice = made.choose(request)
    made.finish(request, choice, 0.01)
    return [choice, made.report().to_json()]


# -- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One learner: how to make, read and use it, and the part of its state that carries the width."""

    make: Callable[..., object]
    read: Callable[[State], object]
    use: Callable[[object], object]
    of_width: tuple[str, ...] | None = None  # entries taken from a narrower one; None for learners without a width


CASES = {
    "MicroLoRA": Case(micro, MicroLoRA.from_state, use_micro, ("weights",)),
    "BaseLoRA": Case(
        base,
        BaseLoRA.from_state,
        lambda made: [made.forward_layer(layer, QUERIES).tobytes() for layer in range(3)],
        ("layers",),
    ),
    "RidgeStatistics": Case(statistics, RidgeStatistics.from_state, use_statistics, ("cross",)),
    "RunningBaseline": Case(baseline, RunningBaseline.from_state, lambda made: made.update(0.2)),
    "EwcPlusPlus": Case(ewc, EwcPlusPlus.from_state, use_ewc, ("memory",)),
    "BoundaryDetector": Case(boundary, BoundaryDetector.from_state, use_boundary),
    "ReasoningBank": Case(bank, ReasoningBank.from_state, use_bank, ("ring",)),
    "VoteMemory": Case(votes, VoteMemory.from_state, use_votes, ("requests",)),
    "MemoryGraph": Case(graph, MemoryGraph.from_state, use_graph, ("nodes",)),
    "AssociativeMemory": Case(associations, AssociativeMemory.from_state, use_associations),
    "PublishedLinks": Case(lambda: associations().links, PublishedLinks.from_state, use_links),
    "DeepLoop": Case(deep, DeepLoop.from_state, use_deep),
    "Progress": Case(
        lambda: Progress(2, ("link", "compare"), 1, 1, (("a", "b", 0.99),)), Progress.from_state, lambda made: made
    ),
    "Hierarchy": Case(lambda: arrange(bank().patterns), Hierarchy.from_state, lambda made: made.levels),
    "ConsolidationPlan": Case(consolidation, ConsolidationPlan.from_state, lambda made: made),
    "Calibrator": Case(calibrator, Calibrator.from_state, use_calibrator),
    "InstantLoop": Case(instant, InstantLoop.from_state, use_instant, ("buffer",)),
    "BackgroundLoop": Case(background, BackgroundLoop.from_state, use_background, ("base",)),
    "LoopCoordinator": Case(coordinator, LoopCoordinator.from_state, use_coordinator, ("instant", "associations")),
    "LoopCheckpoint": Case(
        lambda width=D: coordinator(width).checkpoint(), LoopCheckpoint.from_state, use_loop_checkpoint, ("in_force",)
    ),
    "VoteCheckpoint": Case(
        lambda width=D: votes(width).checkpoint(), VoteCheckpoint.from_state, use_vote_checkpoint, ("requests",)
    ),
    "CalibrationCheckpoint": Case(
        lambda: calibrator().checkpoint(), CalibrationCheckpoint.from_state, use_calibration_checkpoint
    ),
    "Opinions": Case(lambda: votes()._opinions, Opinions.from_state, lambda made: made.hold(1, "u1", ())),
    "TrajectoryBuffer": Case(buffer, TrajectoryBuffer.from_state, use_buffer),
    "TrajectoryIds": Case(ids, TrajectoryIds.from_state, lambda made: [made.next(), made.next()]),
    "LsaEmbedder": Case(
        embedder, LsaEmbedder.from_state, lambda made: made.embed(["a red garden", "the house", "one"]).tobytes()
    ),
    "Memories": Case(memories, Memories.from_state, use_memories),
    "ServedRequests": Case(served, lambda state: ServedRequests.from_state(state, 100, 1e6), use_served),
    "Intake": Case(lambda: engine()._intake, lambda state: Intake.from_state(state, CONFIG), use_intake),
    "Learner": Case(learner, lambda state: Learner.from_state(state, CONFIG), use_learner, ("votes",)),
    "LearnerCheckpoint": Case(lambda: learner().checkpoint(), LearnerCheckpoint.from_state, use_learner_checkpoint),
    "Versions": Case(lambda: engine()._machine.versions, Versions.from_state, use_versions),
    "Judgement": Case(judgement, lambda state: Judgement.from_state(state, CONFIG.guard), use_judgement),
    "Machine": Case(lambda width=D: engine(width)._machine, read_machine, use_machine, ("learner",)),
    "SonaEngine": Case(engine, read_engine, use_engine, ("machine/learner",)),
    "AttentionSelector": Case(attention, lambda state: AttentionSelector.from_state(state, DAG), use_attention),
    "UcbTuned": Case(arms_pulled, lambda state: UcbTuned.from_state(state, 3), use_arms),
    "SearchPolicy": Case(searches, SearchPolicy.from_state, use_searches),
    "Tuner": Case(tuner, lambda state: Tuner.from_state(state, TUNING), use_tuner),
    "DagTrajectoryBuffer": Case(lambda: dag()._buffer, DagTrajectoryBuffer.from_state, use_dag_buffer),
    "DagReasoningBank": Case(
        lambda width=16: dag(16 if width == 16 else 17).bank,
        lambda state: DagReasoningBank.from_state(state, DAG),
        use_dag_bank,
        ("patterns",),
    ),
    "DagMicroLoRA": Case(
        lambda width=16: dag(16 if width == 16 else 17).adapter,
        lambda state: DagMicroLoRA.from_state(state, DAG),
        use_dag_micro,
        ("micro", "ewc"),
    ),
    "DagSonaEngine": Case(
        lambda width=16: dag(16 if width == 16 else 17),
        lambda state: DagSonaEngine.from_state(state, DAG),
        use_dag,
        ("bank", "adapter", "buffer"),
    ),
}
# Written only when there is something to write; absence means there was nothing.
OPTIONAL = {
    ("learner",): "no vector was seen yet",
    ("layers",): "its layers, each only once it was set",
    ("detector", "embedding"): "no embedding was observed yet",
    ("detector", "width"): "that of embeddings, and none was observed yet",
    ("embedding",): "no embedding was observed yet",
    ("memory", "precision"): "no task is finished yet",
}


def is_optional(path: tuple[str, ...]) -> bool:
    return any(path[-len(end) :] == end for end in OPTIONAL) or path[-2:-1] == ("layers",)


def written_and_read(state: State, folder: Path) -> State:
    write_state(folder / "state", "learner", state)
    return read_state(folder / "state", "learner")


def timeless(state: State) -> State:
    def still(name, value):
        if isinstance(value, State):
            return timeless(value)
        if name == "servings":
            return [serving[:-1] for serving in value]  # the last is what the learned answer took
        if name in ("whole_us", "learning_us"):
            return 0.0
        return np.zeros_like(value) if name in ("latency_us", "step_timestamp") else value

    return State({name: still(name, value) for name, value in state.items()})


def paths(state: State, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in state.items():
        yield (*prefix, name)
        if isinstance(value, State):
            yield from paths(value, (*prefix, name))


def is_empty(state: State, path: tuple[str, ...]) -> bool:
    """Return True when the entry at `path` is a subtree with nothing in it."""
    for name in path[:-1]:
        state = state.child(name)
    value = dict(state.items())[path[-1]]
    return isinstance(value, State) and not dict(value.items())


def changed(state: State, path: tuple[str, ...], *value: object) -> State:
    """Return the tree with one entry replaced by `value`, or gone when there is none."""
    name, *rest = path
    values = dict(state.items())
    if rest:
        values[name] = changed(state.child(name), tuple(rest), *value)
    elif value:
        values[name] = value[0]
    else:
        del values[name]
    return State(values)


@pytest.mark.parametrize("name", CASES)
def test_it_comes_back_bit_for_bit_and_goes_on_as_before(name, tmp_path):
    case = CASES[name]
    made = case.make()
    again = case.read(written_and_read(made.state(), tmp_path))
    assert type(again) is type(made)
    assert digest(again.state()) == digest(made.state())
    assert case.use(again) == case.use(made)
    assert digest(timeless(again.state())) == digest(timeless(made.state()))


@pytest.mark.parametrize("name", CASES)
def test_its_state_is_a_copy_that_later_learning_does_not_change(name):
    case = CASES[name]
    made = case.make()
    state = made.state()
    before = digest(state)
    case.use(made)
    assert digest(state) == before
    again = case.read(state)
    case.use(again)
    assert digest(state) == before


@pytest.mark.parametrize("name", CASES)
def test_a_state_without_one_of_its_entries_is_refused(name):
    case = CASES[name]
    state = case.make().state()
    for path in paths(state):
        if is_optional(path):
            continue
        try:
            case.read(changed(state, path))
        except StoreError:
            continue
        pytest.fail(f"{name} loads without {'/'.join(path)}")


@pytest.mark.parametrize("name", CASES)
def test_a_state_with_an_entry_of_another_kind_is_refused(name):
    case = CASES[name]
    state = case.make().state()
    for path in paths(state):
        if is_optional(path):
            continue
        for wrong in (np.zeros((1, 1, 1, 1), np.int8), State({})):
            if isinstance(wrong, State) and is_empty(state, path):
                continue  # it would be the same
            try:
                case.read(changed(state, path, wrong))
            except StoreError:
                continue
            pytest.fail(f"{name}: {'/'.join(path)} may be {wrong!r}")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.of_width])
def test_a_state_with_parts_of_another_width_is_refused(name):
    case = CASES[name]
    state, narrow = case.make().state(), case.make(D - 1).state()
    for part in case.of_width:
        *above, name = part.split("/")
        values = narrow
        for folder in above:
            values = values.child(folder)
        with pytest.raises(StoreError):
            case.read(changed(state, (*above, name), dict(values.items())[name]))


def test_a_calibration_of_other_bins_is_refused():
    with pytest.raises(StoreError):
        Calibrator.from_state(changed(calibrator().state(), ("belief", "mean"), np.zeros(3)))


@pytest.mark.parametrize(
    "path",
    [
        ("machine", "learner", "hidden_dim"),
        ("machine", "learner", "loops", "instant", "micro", "rank"),
        ("machine", "learner", "loops", "background", "base", "alpha"),
        ("machine", "learner", "votes", "hidden_dim"),
        ("machine", "intake", "ids", "last"),
        ("machine", "key", "hex"),
    ],
)
def test_a_value_out_of_its_range_is_a_damaged_file(path):
    with pytest.raises(StoreError):
        read_engine(changed(engine().state(), path, -7))


def test_a_file_of_another_version_kind_or_cut_short_is_refused(tmp_path):
    path = tmp_path / "engine"
    engine().save(path)
    whole = path.read_bytes()

    def refused() -> str:
        with pytest.raises(StoreError) as error:
            SonaEngine.load(path, embedder=_lengths(D))
        assert isinstance(error.value, SonaError)
        return str(error.value)

    with safe_open(str(path), framework="numpy") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, str(path), {**metadata, "version": "2"})
    assert "version 2" in refused()
    write_state(path, "base_lora", engine().state())
    assert "base_lora" in refused()
    for length in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(bytes(flipped))
    assert "checksum" in refused()
    path.unlink()
    assert "no saved state" in refused()


def test_every_exported_learner_is_in_the_table():
    import sona

    learners = {name for name in sona.__all__ if hasattr(getattr(sona, name), "from_state")}
    assert learners <= set(CASES)
