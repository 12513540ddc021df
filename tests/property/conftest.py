"""What several laws need."""

from types import SimpleNamespace

import pytest

from sona.engine import core, learner
from sona.trajectory import TrajectoryBuilder, builder


@pytest.fixture(scope="module")
def no_time_passes():
    """What a request took is logged as a fact; two runs are alike only when it takes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (core, learner):
            patch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 0.0))
        patch.setattr(builder, "time", SimpleNamespace(monotonic=lambda: 0.0))
        patch.setitem(TrajectoryBuilder.__init__.__kwdefaults__, "clock", lambda: 0.0)
        yield
