"""What requests take, and what of it is spent on what was learned."""

from __future__ import annotations

from dataclasses import dataclass

from sona.state import State


@dataclass(frozen=True, slots=True)
class MeanLatency:
    """Mean time of a request, microseconds.

    Args:
        requests: Requests behind it.
        with_learning_us: As answered.
        without_learning_us: Without the part spent on what was learned.
    """

    requests: int
    with_learning_us: float
    without_learning_us: float


class Latency:
    """Sums of the times of requests."""

    def __init__(self) -> None:
        """Start without requests."""
        self._requests = 0
        self._whole_us = 0.0
        self._learning_us = 0.0

    def add(self, latency_us: float, learning_us: float) -> None:
        """Add a request, and the part of its time spent on what was learned."""
        self._requests += 1
        self._whole_us += latency_us
        self._learning_us += learning_us

    def mean(self) -> MeanLatency | None:
        """Return the means; None before the first request."""
        count = self._requests
        if not count:
            return None
        return MeanLatency(count, self._whole_us / count, (self._whole_us - self._learning_us) / count)

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        return State({"requests": self._requests, "whole_us": self._whole_us, "learning_us": self._learning_us})

    @classmethod
    def from_state(cls, state: State) -> Latency:
        """Return the sums that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or damaged.
        """
        latency = cls()
        latency._requests = state.whole("requests")
        latency._whole_us, latency._learning_us = state.number("whole_us"), state.number("learning_us")
        return latency
