"""When does a new task begin? When embeddings or losses stop looking like the past."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, rows, vector
from sona.config import BoundaryConfig
from sona.errors import ConfigError, DimensionMismatch, StoreError
from sona.retention.energy import Comparison, EnergyChannel
from sona.state import State, Value

_ROUNDING = 1e-6  # relative to the losses' size: a smaller spread counts as this one


@dataclass(frozen=True, slots=True)
class BoundaryResult:
    """What one call of `observe` found.

    Args:
        is_boundary: True when a new task began within this call.
        channel: What showed it, `"embedding"` or `"loss"`; None without a boundary.
        statistic: Of the boundary's test, else of the last test of this call; None when none was due.
        threshold: What the statistic was compared with; None when none was due.
        reason: A sentence: what was found, or why nothing could be tested yet.
    """

    is_boundary: bool
    channel: str | None
    statistic: float | None
    threshold: float | None
    reason: str


class LossChannel:
    """Compare the mean of a sliding window of losses with the losses before it; only a rise is an alarm.

    The statistic is the two-sample z of the means with the history's standard deviation. What leaves the window
    becomes history, so a slow trend is followed and a jump is seen.
    """

    __slots__ = ("_config", "_losses", "_pending")

    def __init__(self, config: BoundaryConfig) -> None:
        """Start without losses."""
        self._config = config
        self._losses: Floats = np.zeros(0, np.float32)  # history, then window
        self._pending: Floats = np.zeros(0, np.float32)

    @property
    def stride(self) -> int:
        """New losses between two tests."""
        return max(1, self._config.window_size // 2)

    @property
    def room(self) -> int:
        """Losses that can be fed at once: up to the next test."""
        return self.stride - len(self._pending)

    def restart(self, keep: int) -> None:
        """Begin a new history from the last `keep` losses."""
        recent = np.concatenate([self._losses, self._pending])
        self._losses = recent[max(0, recent.shape[0] - keep) :]
        self._pending = recent[:0]

    def feed(self, losses: Floats) -> Comparison | None:
        """Take up to `room` losses (n,); return a test when one was due."""
        self._pending = np.concatenate([self._pending, losses])
        if self._pending.shape[0] < self.stride:
            return None
        limit = self._config.loss_history + self._config.window_size
        self._losses = np.concatenate([self._losses, self._pending])[-limit:]
        self._pending = self._pending[:0]
        return self._test() if self._losses.shape[0] == limit else None

    def _test(self) -> Comparison:
        split = self._config.loss_history
        history, window = self._losses[:split].astype(np.float64), self._losses[split:].astype(np.float64)
        spread = max(float(history.std(ddof=1)), _ROUNDING * float(np.abs(history).max()), np.finfo(float).tiny)
        error = spread * math.sqrt(1.0 / split + 1.0 / window.shape[0])
        return Comparison(float(window.mean() - history.mean()) / error, self._config.loss_z)

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        return State({"losses": self._losses.copy(), "pending": self._pending.copy()})

    @classmethod
    def from_state(cls, state: State, config: BoundaryConfig) -> LossChannel:
        """Return the channel that `state` describes."""
        channel = cls(config)
        channel._losses = state.floats("losses", None)
        channel._pending = state.floats("pending", None)
        return channel


class BoundaryDetector:
    """Say when the stream of requests changes: an energy test on embeddings, and beside it a z-test on losses.

    A boundary needs `patience` alarms in a row on one channel. After it both channels begin anew with what came
    after the first of those alarms, so that the past they judge by is of the new regime only. The outcome does not
    depend on how the stream is cut into calls.

    Args:
        config: Settings; the width of the embeddings is fixed by the first ones.

    Source:
        Szekely & Rizzo 2013, Energy statistics, two-sample test.

    >>> rng = np.random.default_rng(0)
    >>> detector = BoundaryDetector(BoundaryConfig())
    >>> detector.observe(rng.normal(size=(300, 8)), rng=rng).is_boundary
    False
    >>> detector.observe(rng.normal(3.0, size=(96, 8)), rng=rng).channel
    'embedding'
    """

    __slots__ = ("_alarms", "_boundaries", "_config", "_embedding", "_loss", "_width")

    def __init__(self, config: BoundaryConfig | None = None) -> None:
        """Start knowing nothing of the stream."""
        self._config = BoundaryConfig() if config is None else config
        self._width: int | None = None
        self._embedding: EnergyChannel | None = None
        self._loss = LossChannel(self._config)
        self._alarms = {"embedding": 0, "loss": 0}  # alarms in a row, by channel
        self._boundaries = 0

    @property
    def config(self) -> BoundaryConfig:
        """The settings."""
        return self._config

    @property
    def width(self) -> int | None:
        """Width d of the embeddings; None before the first."""
        return self._width

    @property
    def boundary_count(self) -> int:
        """Boundaries found so far."""
        return self._boundaries

    def observe(
        self, embeddings: npt.ArrayLike, losses: npt.ArrayLike | None = None, *, rng: np.random.Generator
    ) -> BoundaryResult:
        """Take the next embeddings of the stream and say whether a new task began.

        Args:
            embeddings: One embedding (d,) or a batch (n, d), in order.
            losses: A loss per embedding, a number or (n,); None leaves the loss channel as it is.
            rng: Draws the random splits each time a reference is complete.

        Raises:
            DimensionMismatch: another width than the first embeddings had, or not one loss per embedding.
            InvalidValue: NaN or infinity.
        """
        batch = rows(embeddings, self._width, "embeddings")
        if batch.shape[0] == 0:
            return BoundaryResult(False, None, None, None, "the batch holds no embeddings")
        values = None if losses is None else _checked_losses(losses, batch.shape[0])
        channel = self._channel_for(batch.shape[1])
        last: BoundaryResult | None = None
        start = 0
        while start < batch.shape[0]:
            # A step ends where a test falls due, so the cuts are the same however the stream arrives.
            stop = start + min(channel.room, channel.room if values is None else self._loss.room)
            found = self._step(channel, batch[start:stop], None if values is None else values[start:stop], rng)
            if found is not None and (last is None or not last.is_boundary):
                last = found
            start = stop
        return last or BoundaryResult(False, None, None, None, channel.waiting_for())

    def _channel_for(self, width: int) -> EnergyChannel:
        if self._embedding is None:
            self._width = width
            self._embedding = EnergyChannel(self._config, width)
        return self._embedding

    def _step(
        self, channel: EnergyChannel, rows: Floats, losses: Floats | None, rng: np.random.Generator
    ) -> BoundaryResult | None:
        tests = {"embedding": channel.feed(rows, rng), "loss": None if losses is None else self._loss.feed(losses)}
        result: BoundaryResult | None = None
        for name, test in tests.items():
            if test is None:
                continue
            self._alarms[name] = self._alarms[name] + 1 if test.is_alarm else 0
            if self._alarms[name] >= self._config.patience:
                self._restart(channel)
                return _boundary(name, test)
            result = result or self._no_boundary(name, test)
        return result

    def _restart(self, channel: EnergyChannel) -> None:
        keep = min((self._config.patience - 1) * channel.stride, self._config.window_size)
        channel.restart(keep)
        self._loss.restart(keep)
        self._alarms = dict.fromkeys(self._alarms, 0)
        self._boundaries += 1

    def _no_boundary(self, name: str, test: Comparison) -> BoundaryResult:
        if test.is_alarm:
            reason = f"{name} alarm {self._alarms[name]} of {self._config.patience}"
        else:
            reason = f"{name} as before"
        return BoundaryResult(False, None, test.statistic, test.threshold, f"{reason}: {_compared(test)}")

    def state(self) -> State:
        """Return everything needed to continue bit for bit."""
        tree: dict[str, Value] = {
            "config": State(asdict(self._config)),
            "alarms_embedding": self._alarms["embedding"],
            "alarms_loss": self._alarms["loss"],
            "boundaries": self._boundaries,
            "width": self._width,
            "loss": self._loss.state(),
        }
        if self._embedding is not None:
            tree["embedding"] = self._embedding.state()
        return State(tree)

    @classmethod
    def from_state(cls, state: State) -> BoundaryDetector:
        """Return the detector that `state` describes, equal bit for bit.

        Raises:
            StoreError: something is missing, of another kind, or outside its range.
        """
        config = boundary_config_from(state.child("config"))
        detector = cls(config)
        detector._loss = LossChannel.from_state(state.child("loss"), config)
        detector._alarms = {"embedding": state.whole("alarms_embedding"), "loss": state.whole("alarms_loss")}
        detector._boundaries = state.whole("boundaries")
        if "embedding" in state:
            detector._width = state.whole("width")
            detector._embedding = EnergyChannel.from_state(state.child("embedding"), config, detector._width)
        return detector


def boundary_config_from(state: State) -> BoundaryConfig:
    """Return the settings that `state` describes, or raise StoreError."""
    try:
        return BoundaryConfig(
            reference_size=state.whole("reference_size"),
            window_size=state.whole("window_size"),
            null_splits=state.whole("null_splits"),
            alarm_sd=state.number("alarm_sd"),
            patience=state.whole("patience"),
            loss_z=state.number("loss_z"),
            loss_history=state.whole("loss_history"),
        )
    except ConfigError as error:
        raise StoreError(f"saved state: {error}") from error


def _checked_losses(losses: npt.ArrayLike, count: int) -> Floats:
    values = vector([float(losses)] if isinstance(losses, (int, float, np.floating)) else losses, what="losses")
    if values.shape[0] != count:
        raise DimensionMismatch(count, values.shape[0], "losses")
    return values


def _boundary(name: str, test: Comparison) -> BoundaryResult:
    return BoundaryResult(True, name, test.statistic, test.threshold, f"{name} changed: {_compared(test)}")


def _compared(test: Comparison) -> str:
    return f"statistic {test.statistic:.4g}, threshold {test.threshold:.4g}"
