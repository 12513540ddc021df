"""Each component works without an engine: MicroLoRA, BaseLoRA, EwcPlusPlus, ReasoningBank.

python examples/04_components_alone.py
"""

import numpy as np

from sona import (
    BaseLoRA,
    EwcConfig,
    EwcPlusPlus,
    LearningSignal,
    MicroLoRA,
    PatternConfig,
    QueryTrajectory,
    ReasoningBank,
    RidgeStatistics,
)


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def micro_lora(rng: np.random.Generator) -> None:
    adapter = MicroLoRA(64, rank=2)
    x, target = unit(rng.normal(size=64)), unit(rng.normal(size=64))
    print("MicroLoRA    new: returns x exactly:", bool((adapter.forward(x) == x).all()))
    before = float(unit(adapter.forward(x)) @ target)
    for _ in range(50):
        adapter.accumulate_gradient(LearningSignal.with_gradient(x, target - x, quality=1.0))
        adapter.apply_accumulated(0.05)
    print(f"             cosine to the target {before:+.3f} -> {float(unit(adapter.forward(x)) @ target):+.3f}")
    print(f"             |correction| {np.linalg.norm(adapter.delta(x)):.3f}, trust region {adapter.trust_region}")


def base_lora(rng: np.random.Generator) -> None:
    x = unit(rng.normal(size=(500, 32)))
    wanted = x + x @ (rng.normal(size=(32, 6)) @ rng.normal(size=(6, 32)) / 6.0)  # what serves x: a change of rank 6
    statistics = RidgeStatistics(32)
    statistics.add(x, wanted)
    print(f"BaseLoRA     without: relative error {np.linalg.norm(x - wanted) / np.linalg.norm(wanted):.2f}")
    for rank in (2, 6):
        adapter = BaseLoRA(32, rank=rank, num_layers=1)
        fit = adapter.fit_layer(0, statistics, regularisation=0.1, strength=1.0)
        error = np.linalg.norm(adapter.forward_layer(0, x) - wanted) / np.linalg.norm(wanted)
        print(f"             rank {rank}: {fit.energy_kept:.2f} of the solution kept, relative error {error:.2f}")
    merged = x @ adapter.merge_weights(np.eye(32), 0)
    print("             merged weights equal applying:", np.allclose(merged, adapter.forward_layer(0, x), atol=1e-5))


def ewc() -> None:
    # Two quadratic losses, 3/2 (w + 1)^2 and then 2/2 (w - 4)^2. The joint optimum is known in closed form.
    keeper = EwcPlusPlus(EwcConfig(param_count=1, strength=1.5, min_strength=0.0, learning_rate=0.05))
    keeper.update_fisher([[1.0], [-1.0], [1.0], [3.0]])  # mean square 3, the first loss's curvature
    keeper.start_new_task([-1.0])
    w = np.array([-1.0], np.float32)
    for _ in range(500):
        w = w - np.float32(0.05) * keeper.apply_constraints(2.0 * (w - 4.0), w)
    joint = (2.0 * 4.0 + 1.5 * 3.0 * -1.0) / (2.0 + 1.5 * 3.0)
    print(f"EwcPlusPlus  ends at {w[0]:.6f}; closed form {joint:.6f}; without protection it would end at 4")


def reasoning_bank(rng: np.random.Generator) -> None:
    topics = unit(rng.normal(size=(3, 48)))
    bank = ReasoningBank(PatternConfig(min_cluster_size=5))
    for number in range(90):
        topic = number % 3
        route = ("small", "large")[number // 3 % 2]
        usual = 0.9 if (topic == 0 and route == "large") else 0.5  # the large model helps on one topic only
        quality = float(np.clip(usual + 0.05 * rng.normal(), 0.0, 1.0))
        query = topics[topic] + 0.05 * rng.normal(size=48).astype(np.float32)
        bank.add_trajectory(QueryTrajectory(number, query, final_quality=quality, model_route=route))
    found = bank.extract_patterns(now=0.0, rng=np.random.default_rng(0))
    waiting = f"{found.waiting} wait for more like them"
    print(f"ReasoningBank {found.new} patterns from {bank.trajectory_count} requests, {waiting}")
    for topic in range(3):
        match = bank.find_similar(topics[topic], 1)[0]
        verdict = bank.verdict(match.pattern.id, default="small")
        print(f"             pattern {match.pattern.id}, {match.pattern.cluster_size} requests: {verdict.reason}")


def main() -> None:
    rng = np.random.default_rng(7)
    micro_lora(rng)
    base_lora(rng)
    ewc()
    reasoning_bank(rng)


if __name__ == "__main__":
    main()
