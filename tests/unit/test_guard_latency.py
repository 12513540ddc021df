"""Mean times, with what was learned and without."""

from sona.guard.latency import Latency, MeanLatency
from sona.state import digest


def test_means_are_over_all_requests():
    latency = Latency()
    assert latency.mean() is None
    latency.add(100.0, 20.0)
    latency.add(50.0, 0.0)
    assert latency.mean() == MeanLatency(2, 75.0, 65.0)
    assert digest(Latency.from_state(latency.state()).state()) == digest(latency.state())
