"""Tuners that act at once, and what must be the same on a connection before and after every statement."""

from __future__ import annotations

import pytest

from sona.config.tuner import TunerConfig
from sona.tuner.choosing.arms import SERVER, Arm
from sona.tuner.choosing.plan_policy import Choice, PlanPolicy, Purpose
from sona.tuner.execution import ExecutionParams
from sona.tuner.tuner import Tuner

SETTINGS = "SELECT name, setting FROM pg_catalog.pg_settings ORDER BY name"
psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'sona[postgres]'")
NO_HASH = Arm("no hash joins", ExecutionParams(custom={"enable_hashjoin": "off", "work_mem": "3MB"}))
NOBODYS = Arm("nobody's", ExecutionParams(custom={"no_such_setting": "1"}))
INVALID = Arm("invalid", ExecutionParams(custom={"random_page_cost": "cheap"}))
SUPERUSERS = Arm("superuser's", ExecutionParams(custom={"log_min_messages": "fatal"}))


def setting(name: str, value: str) -> Arm:
    """An arm of one setting."""
    return Arm(f"{name}={value}", ExecutionParams(custom={name: value}))


class Urgent(PlanPolicy):
    """Tries one arm on whatever comes, each time anew, and never asks what it may cost."""

    def __init__(self, arm: Arm, timeout_s: float | None = 10.0, purpose: Purpose = Purpose.TRIAL) -> None:
        super().__init__(TunerConfig(exploration_share=1.0, min_mean_s=0.0), [arm])
        self.arm, self.timeout_s, self.purpose = arm, timeout_s, purpose
        self.events: list[tuple[str, str]] = []
        self.given_up: set[str] = set()

    def choose(self, key):
        if key in self.given_up or self.arm.name in self.barred:
            return Choice(SERVER, Purpose.SERVER)
        return Choice(self.arm, self.purpose, self.timeout_s, 1.0)

    def in_force(self, key):
        return self.choose(key) if self.purpose is Purpose.KNOWN else Choice(SERVER, Purpose.SERVER)

    def knows_plan(self, key, arm):
        return True

    def wants_plan(self, key):
        return False

    def finish(self, key, fingerprint, choice, time_s):
        self.events.append((choice.arm.name, "finished"))
        super().finish(key, fingerprint, choice, time_s)

    def abandon(self, key, choice, wasted_s):
        self.events.append((choice.arm.name, "abandoned"))
        self.given_up.add(key)
        super().abandon(key, choice, wasted_s)

    def refuse(self, key, arm, why, *, everywhere=False, cost_s=0.0):
        self.events.append((arm.name, "barred" if everywhere else "refused"))
        self.given_up.add(key)
        super().refuse(key, arm, why, everywhere=everywhere, cost_s=cost_s)


def urgent(arm: Arm = NO_HASH, timeout_s: float | None = 10.0, purpose: Purpose = Purpose.TRIAL) -> Tuner:
    """A tuner that runs every statement it may tune with `arm`."""
    tuner = Tuner(TunerConfig(exploration_share=1.0, min_mean_s=0.0))
    tuner._plans = Urgent(arm, timeout_s, purpose)
    return tuner


def events(tuner: Tuner) -> list[tuple[str, str]]:
    """What became of the arms of an urgent tuner so far, which are forgotten."""
    found = list(tuner._plans.events)
    tuner._plans.events.clear()
    return found


def plainly(connection, sql, params=None, **how):
    """Rows as the driver returns them without a tuner."""
    cursor = psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row)
    return cursor.execute(sql, params, **how).fetchall()


def has_read_all_plans(tuner: Tuner) -> bool:
    """Whether the plan of every statement was read, be it forgotten since because the statement's time has changed."""
    return len(tuner._plans.units) > 0 and set(tuner._plans._rates) == set(tuner._plans.units)


def settings_of(connection) -> list[tuple[str, str]]:
    """Every setting in force on a connection."""
    return plainly(connection, SETTINGS)
