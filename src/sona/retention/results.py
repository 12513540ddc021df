"""What the verbs of EWC++ report: what was updated, what was skipped, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FisherUpdate:
    """What `update_fisher` did.

    Args:
        updated: True when the running Fisher changed.
        examples: Per-example gradients that went in.
        skipped_reason: Why nothing was updated; None when it was.
    """

    updated: bool
    examples: int
    skipped_reason: str | None


@dataclass(frozen=True, slots=True)
class TaskChange:
    """What `start_new_task` did.

    Args:
        closed: True when the task in progress joined the protected ones.
        examples: Per-example gradients behind its Fisher.
        task_count: Tasks in memory afterwards.
        evicted: True when the oldest task left the memory; the penalty keeps it.
        skipped_reason: Why nothing was closed; None when it was.
    """

    closed: bool
    examples: int
    task_count: int
    evicted: bool
    skipped_reason: str | None


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What `consolidate_all_tasks` did.

    Args:
        consolidated: True when tasks were merged.
        tasks_merged: Tasks in the merged one, those evicted from the memory included.
        uninformed_parameters: Parameters no task has information on; their anchor stays the latest weights.
        skipped_reason: Why nothing was merged; None when it was.
    """

    consolidated: bool
    tasks_merged: int
    uninformed_parameters: int
    skipped_reason: str | None


@dataclass(frozen=True, slots=True)
class Rebase:
    """What `rebase` did.

    Args:
        tasks_shifted: Tasks whose anchors moved.
        skipped_reason: Why none did; None when some did.
    """

    tasks_shifted: int
    skipped_reason: str | None
