"""The boundary detector: what it finds, what it does not, and that cutting the stream changes nothing."""

import os
from pathlib import Path

import numpy as np
import pytest

from sona.config import BoundaryConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.retention.boundary import BoundaryDetector
from sona.state import State, digest, read_state, write_state

DATA = Path(os.environ.get("SONA_DATA", Path(__file__).parents[3] / "shared" / "data"))
SMALL = BoundaryConfig(reference_size=48, window_size=16, loss_history=32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(count: int, mean: float = 0.0, seed: int = 0, width: int = 8) -> np.ndarray:
    return rng(seed).normal(mean, size=(count, width)).astype(np.float32)


def batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def feed(detector: BoundaryDetector, rows, losses=None, size: int = 8) -> list[str]:
    """Return the channels of the boundaries found."""
    generator = rng(9)
    cuts = [None] * len(batches(rows, size)) if losses is None else batches(losses, size)
    results = [detector.observe(part, cut, rng=generator) for part, cut in zip(batches(rows, size), cuts, strict=True)]
    return [result.channel for result in results if result.is_boundary]


def test_it_says_why_it_does_not_test_yet():
    detector = BoundaryDetector(SMALL)
    reasons = [detector.observe(part, rng=rng()).reason for part in batches(normal(80), 20)]
    assert reasons[:3] == [
        "reference holds 20 of 48 embeddings",
        "reference holds 40 of 48 embeddings",
        "window holds 12 of 16 embeddings",
    ]
    assert reasons[3].startswith("embedding as before: statistic")
    result = detector.observe(normal(1), rng=rng())
    assert result.reason == "next test after 7 more embeddings"
    assert (result.is_boundary, result.channel, result.statistic, result.threshold) == (False, None, None, None)
    assert detector.observe(np.zeros((0, 8)), rng=rng()).reason == "the batch holds no embeddings"


def test_a_change_needs_two_alarms_in_a_row_and_is_found_by_the_second():
    detector = BoundaryDetector(SMALL)
    assert feed(detector, normal(80)) == []
    first = detector.observe(normal(8, 3.0), rng=rng())
    assert not first.is_boundary
    assert first.reason.startswith("embedding alarm 1 of 2")
    second = detector.observe(normal(8, 3.0, seed=1), rng=rng())
    assert (second.is_boundary, second.channel) == (True, "embedding")
    assert second.statistic > second.threshold
    assert detector.boundary_count == 1


def test_one_odd_batch_is_not_a_boundary():
    detector = BoundaryDetector(BoundaryConfig(reference_size=48, window_size=16, patience=3))
    odd = [normal(8, 3.0), normal(40, seed=2)]
    assert feed(detector, np.concatenate([normal(80), *odd, *odd])) == []


def test_after_a_boundary_the_past_is_the_new_regime_and_the_next_change_is_found():
    detector = BoundaryDetector(SMALL)
    stream = [normal(96, 0.0, 1), normal(96, 3.0, 2), normal(96, 0.0, 3), normal(96, 3.0, 4)]
    assert feed(detector, np.concatenate(stream)) == ["embedding"] * 3


def test_the_refilled_reference_holds_nothing_of_the_old_regime():
    detector = BoundaryDetector(SMALL)
    feed(detector, np.concatenate([normal(80), normal(16, 30.0)]))
    assert detector.boundary_count == 1
    kept = detector.state().child("embedding").floats("reference", None, 8)
    np.testing.assert_array_equal(kept, normal(16, 30.0)[8:])


def test_losses_show_a_change_that_embeddings_hide():
    rows, generator = normal(400), rng(3)
    losses = np.concatenate([generator.normal(1.0, 0.3, 200), generator.normal(2.0, 0.3, 200)])
    assert feed(BoundaryDetector(SMALL), rows) == []
    assert feed(BoundaryDetector(SMALL), rows, losses) == ["loss"]


def test_falling_or_steady_losses_are_no_boundary():
    noise = rng(4).normal(0.0, 0.1, 400)
    for trend in (np.zeros(400), np.linspace(3.0, 0.0, 400)):
        assert feed(BoundaryDetector(SMALL), normal(400), trend + noise) == []
    assert feed(BoundaryDetector(SMALL), normal(400), np.full(400, 0.5)) == []


def test_a_jump_after_constant_losses_is_found():
    losses = np.repeat([0.5, 0.6], 100)
    assert feed(BoundaryDetector(SMALL), normal(200), losses) == ["loss"]


def test_losses_may_be_missing_now_and_then():
    detector, generator = BoundaryDetector(SMALL), rng(5)
    for k in range(40):
        losses = generator.normal(1.0 + (k >= 25), 0.1, 8) if k % 2 else None
        result = detector.observe(normal(8, seed=k), losses, rng=generator)
        if result.is_boundary:
            break
    assert result.channel == "loss"
    assert 25 < k < 31


@pytest.mark.parametrize("size", [1, 3, 8, 20, 1000])
def test_the_state_does_not_depend_on_how_the_stream_is_cut(size):
    rows = np.concatenate([normal(100), normal(60, 2.0), normal(33, 0.0, 7)])
    losses = rng(6).random(len(rows)).astype(np.float32)
    whole, cut = BoundaryDetector(SMALL), BoundaryDetector(SMALL)
    feed(whole, rows, losses, size=16)
    feed(cut, rows, losses, size=size)
    assert digest(cut.state()) == digest(whole.state())
    assert cut.boundary_count == 2


def test_single_vectors_and_numbers_are_a_batch_of_one():
    one, many = BoundaryDetector(SMALL), BoundaryDetector(SMALL)
    for row in normal(60):
        one.observe(row, 0.5, rng=rng())
        many.observe(row[None], [0.5], rng=rng())
    assert digest(one.state()) == digest(many.state())


def test_same_seed_same_result():
    runs = [feed(detector := BoundaryDetector(SMALL), normal(90)) or digest(detector.state()) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("embeddings", "losses", "error"),
    [
        (np.zeros(7), None, DimensionMismatch),
        (np.zeros((2, 9)), None, DimensionMismatch),
        (np.zeros((1, 2, 8)), None, InvalidValue),
        (np.full((2, 8), np.nan), None, InvalidValue),
        (np.full(8, np.inf), None, InvalidValue),
        (np.zeros((2, 8)), [1.0], DimensionMismatch),
        (np.zeros((2, 8)), 1.0, DimensionMismatch),
        (np.zeros((2, 8)), [1.0, np.nan], InvalidValue),
        (np.zeros((2, 8)), [[1.0, 2.0]], InvalidValue),
        (np.zeros(8), np.nan, InvalidValue),
        ([[1.0], [1.0, 2.0]], None, InvalidValue),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(embeddings, losses, error):
    detector = BoundaryDetector(SMALL)
    detector.observe(normal(70), rng=rng())
    before = digest(detector.state())
    with pytest.raises(error):
        detector.observe(embeddings, losses, rng=rng())
    assert digest(detector.state()) == before


def test_bad_first_input_does_not_fix_the_width():
    detector = BoundaryDetector(SMALL)
    with pytest.raises(InvalidValue):
        detector.observe(np.full(3, np.nan), rng=rng())
    with pytest.raises(DimensionMismatch):
        detector.observe(np.zeros((2, 3)), [1.0], rng=rng())
    assert detector.width is None
    detector.observe(normal(1), rng=rng())
    assert detector.width == 8


def test_extreme_sizes_work():
    for settings in ({"window_size": 2, "reference_size": 4}, {"window_size": 4, "reference_size": 4, "patience": 5}):
        detector = BoundaryDetector(BoundaryConfig(**settings))
        assert feed(detector, np.concatenate([normal(40), normal(60, 50.0)]), size=7)
        assert detector.boundary_count >= 1


def test_a_saved_detector_continues_bit_for_bit(tmp_path):
    stream = np.concatenate([normal(90), normal(80, 2.0)])
    losses = rng(1).random(len(stream))
    for cut in (0, 5, 50, 75, 99, 130):
        detector = BoundaryDetector(SMALL)
        generator = rng(2)
        detector.observe(stream[:cut], losses[:cut], rng=generator)
        write_state(tmp_path / "b.sona", "boundary", detector.state())
        again = BoundaryDetector.from_state(read_state(tmp_path / "b.sona", "boundary"))
        assert digest(again.state()) == digest(detector.state())
        other = rng(2)
        other.bit_generator.state = generator.bit_generator.state
        results = [
            each.observe(stream[cut:], losses[cut:], rng=source)
            for each, source in ((detector, generator), (again, other))
        ]
        assert results[0] == results[1]
        assert digest(again.state()) == digest(detector.state())


def test_a_state_with_impossible_settings_is_refused():
    tree = BoundaryDetector(SMALL).state()
    config = State({**dict(tree.child("config").items()), "window_size": 0})
    with pytest.raises(StoreError):
        BoundaryDetector.from_state(State({**dict(tree.items()), "config": config}))


@pytest.mark.skipif(not (DATA / "cranfield" / "minilm.npz").is_file(), reason=f"no embeddings under {DATA}")
class TestRealEmbeddings:
    """BANKING77 then Cranfield, sentence embeddings; rates over many seeds are in bench/forgetting/stream.py."""

    def banking(self, seed: int) -> np.ndarray:
        with np.load(DATA / "banking77" / "minilm.npz") as file:
            rows = np.concatenate([file["train"], file["test"]]).astype(np.float32)
        return rows[rng(seed).permutation(len(rows))]

    @pytest.mark.parametrize("part", ["queries", "documents"])
    def test_another_domain_is_found_within_three_batches(self, part):
        with np.load(DATA / "cranfield" / "minilm.npz") as file:
            second = file[part].astype(np.float32)
        detector = BoundaryDetector()
        assert feed(detector, self.banking(0)[:640], size=32) == []
        assert feed(detector, second[:96], size=32) == ["embedding"]

    def test_shuffled_requests_of_one_domain_raise_at_most_one_false_alarm(self):
        false = sum(len(feed(BoundaryDetector(), self.banking(seed), size=32)) for seed in range(4))
        assert false <= 1
