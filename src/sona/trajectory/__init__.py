"""Requests on their way to being learned from: ids, the builder of one, the buffer of many, and how they are saved."""

from sona.trajectory.buffer import TrajectoryBuffer, TrajectoryIds
from sona.trajectory.builder import OpenTrajectories, TrajectoryBuilder, begun
from sona.trajectory.record import trajectories_from_state, trajectories_state
from sona.trajectory.shelf import Place, TrajectoryShelf, shelved

__all__ = [
    "OpenTrajectories",
    "Place",
    "TrajectoryBuffer",
    "TrajectoryBuilder",
    "TrajectoryIds",
    "TrajectoryShelf",
    "begun",
    "shelved",
    "trajectories_from_state",
    "trajectories_state",
]
