"""A tuner that was taught by a server of one's own making: how long each statement takes under each arm is given."""

from sona.config.tuner import TunerConfig
from sona.tuner.plans.plan import NeuralDagPlan
from sona.tuner.tuner import Tuner

PLAN = NeuralDagPlan.from_explain(
    [
        {
            "Plan": {
                "Node Type": "Nested Loop", "Join Type": "Inner", "Startup Cost": 0.0, "Total Cost": 100.0,
                "Plan Rows": 10, "Plan Width": 8, "Plans": [
                    {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Relation Name": "a", "Alias": "a",
                     "Startup Cost": 0.0, "Total Cost": 50.0, "Plan Rows": 10, "Plan Width": 8},
                    {"Node Type": "Index Scan", "Parent Relationship": "Inner", "Relation Name": "b", "Alias": "b",
                     "Index Name": "b_x", "Scan Direction": "Forward", "Startup Cost": 0.0, "Total Cost": 5.0,
                     "Plan Rows": 1, "Plan Width": 8},
                ],
            }
        }
    ]
)  # fmt: skip
SLOW = "SELECT a.x FROM a JOIN b ON a.x = b.x WHERE a.y = {}"
QUICK = "SELECT count(*) FROM b WHERE x = 1"
WRITE = "DELETE FROM b"


def served(*, slow=8, gain=0.1):
    """Return what each statement takes, in seconds: joins that are faster without nested loops, and two others."""
    times = {SLOW.format(n): {"server": 0.1, "no nested loops": gain * 0.1} for n in range(slow)}
    return {**times, QUICK: {"server": 0.0004}, WRITE: {"server": 0.002}}


def taught(times=None, passes=60, *, mode="tune"):
    """Return a tuner after `passes` over statements; an arm without a time takes three times the server's own."""
    tuner = Tuner(TunerConfig(), mode=mode)
    for _ in range(passes):
        for sql, by_arm in (served() if times is None else times).items():
            _run(tuner, sql, by_arm)
    return tuner


def _run(tuner, sql, by_arm):
    request = tuner.request(sql, None)
    if request.refusal is not None:
        tuner.leave_alone(request, by_arm["server"])
        return
    choice = tuner.choose(request)
    time_s = by_arm.get(choice.arm.name, 3.0 * by_arm["server"])
    if choice.timeout_s is not None and time_s > choice.timeout_s:
        tuner.abandon(request, choice, choice.timeout_s)
        choice = tuner.in_force(request)
        time_s = by_arm.get(choice.arm.name, 3.0 * by_arm["server"])
    tuner.finish(request, choice, time_s)
    if tuner.wants_plan(request):
        tuner.describe(request, PLAN, None, 0.0005)
