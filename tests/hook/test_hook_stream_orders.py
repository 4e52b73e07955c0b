"""Streams, contexts and copies in any order of calls: what a container is charged is what it used, on each card."""

from __future__ import annotations

from dataclasses import dataclass, replace

import building
import pytest
from agent import make_neighbours, make_region
from contention import launcher_program
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUIDS = ("GPU-45475055-5349-4d00-8000-000000000000", "GPU-45475055-5349-4d00-8000-000000000001")
QUOTAS = (0.2, 0.6)
TURNS_NS = 2 * 10**9
MEMORY_BYTES = 16 << 30
STREAMS_MORE_THAN_KEPT = 4500
IDLE_STREAMS_PERCENT_MAX = 2000
"""Of the time of a wait without them: 30,000 when every stream is looked at."""
CHURN_ROUNDS = 40
CHURN_SHARE = 0.05
"""A kernel first seen beside others is charged their time too, 0.1 ms or so: of ten rounds that is up to 0.13."""
MEASURED_SHARE = 0.1
"""What is measured differs from the truth by this much at most; what it is charged in advance may be off more."""


@dataclass(frozen=True)
class Used:
    """Nanoseconds on one card: by the driver's books and by the container's."""

    true_ns: int
    charged_ns: int


def run(program: str, *words: str, quotas: tuple[float, float] = (0.9, 0.9), copies: bool = False) -> list[Used]:
    """Both cards after the client has ended; `copies`: the truth is the time of the copy engine too."""
    with Simulation(cards=2, env={"EGPU_SIM_CONTEXT_MIB": "1", "EGPU_SIM_DATA": "0"}) as sim:
        limits = [CardLimits(uuid, MEMORY_BYTES, core_quota=quota) for uuid, quota in zip(UUIDS, quotas, strict=True)]
        region = make_region(sim.folder / "region", cards=limits)
        output = sim.run([building.client(program, "-lcuda"), *words], hook=True, region=region.path, rank=0)
        assert output == ""
        charged = [card.busy_ns for card in region.usage().cards]
        shares = [sim.card(index).rank(0) for index in range(2)]
        return [Used(one.busy_ns + copies * one.copy_ns, ns) for one, ns in zip(shares, charged, strict=True)]


@pytest.mark.parametrize(
    "case",
    [
        "by_other_context",
        "by_no_context",
        "on_other_card",
        "ended_streams",
        "ended_contexts",
        "ended_primary_contexts",
        "ended_green_contexts",
        "host_function_between",
        "event_between",
        "value_between",
        "copy_to_card_between",
        "copy_from_card_between",
        "event_between_by_default",
    ],
)
def test_each_card_is_charged_what_ran_on_it(case: str) -> None:
    for card in run("stream_orders", case):
        assert card.charged_ns == pytest.approx(card.true_ns, rel=MEASURED_SHARE)


@pytest.mark.parametrize("case", ["in_turn", "in_turn_by_default"])
def test_each_card_has_its_own_quota(case: str) -> None:
    for card, quota in zip(run("stream_orders", case, quotas=QUOTAS), QUOTAS, strict=True):
        assert card.charged_ns == pytest.approx(card.true_ns, rel=0.01)
        assert card.true_ns == pytest.approx(quota * TURNS_NS, rel=0.05)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_what_died_with_its_context_is_left_alone(clock: str) -> None:
    with Simulation(clock=clock, env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        region = make_region(sim.folder / "region", cards=[CardLimits(UUIDS[0], MEMORY_BYTES, core_quota=0.9)])
        words = [building.client("context_churn", "-lcuda"), "5", str(CHURN_ROUNDS)]
        sim.run(words, hook=True, region=region.path, rank=0)
        card = region.usage().cards[0]
        assert (sim.dead_events, sim.stalls, card.charged_bytes) == (0, 0, 0)
        share = sim.card().rank(0)
    if clock == "virtual":
        assert card.busy_ns == pytest.approx(share.busy_ns + share.copy_ns, rel=CHURN_SHARE)


def test_streams_of_thousands_of_threads_are_kept_apart() -> None:
    card = run("time_script", "open:0", f"churn:{STREAMS_MORE_THAN_KEPT}:50")[0]
    assert card.charged_ns == pytest.approx(card.true_ns, rel=0.01)


def test_idle_streams_cost_nothing() -> None:
    assert int(output("idle_streams").split()[1]) < IDLE_STREAMS_PERCENT_MAX


@dataclass
class Totals:
    """Nanoseconds on the first card, as in Used."""

    true_ns: int = 0
    charged_ns: int = 0


def output(
    case: str, *, hook: bool = True, memory_mib: tuple[int, int] = (16384, 16384), totals: Totals | None = None
) -> str:
    with Simulation(cards=2, env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        limits = [CardLimits(uuid, mib << 20, core_quota=0.9) for uuid, mib in zip(UUIDS, memory_mib, strict=True)]
        region = make_region(sim.folder / "region", cards=limits)
        text = sim.run([building.client("stream_orders", "-lcuda"), case], hook=hook, region=region.path, rank=0)
        if totals is not None:
            totals.true_ns = sim.card().rank(0).busy_ns
            totals.charged_ns = region.usage().cards[0].busy_ns if hook else 0
        return text


def test_memory_is_the_quota_of_the_streams_card() -> None:
    assert output("pools_of_cards", memory_mib=(512, 1536)) == "small 2\nlarge 0\n"


def test_errors_are_the_drivers_own() -> None:
    assert output("without_context") == output("without_context", hook=False)


def test_captures_hold_what_the_program_recorded() -> None:
    with_hook, without = Totals(), Totals()
    assert output("captures", totals=with_hook) == output("captures", hook=False, totals=without)
    assert with_hook.true_ns == without.true_ns
    # Each graph is new, and measured beside the work of other streams.
    assert with_hook.charged_ns == pytest.approx(with_hook.true_ns, rel=2 * MEASURED_SHARE)


COPY_FORMS = [
    "plain",
    "async",
    "peer",
    "peer_async",
    "2d",
    "2d_unaligned",
    "2d_async",
    "3d",
    "3d_async",
    "3d_peer",
    "3d_peer_async",
    "batch",
    "3d_batch",
]
COPIED_MS = 400
QUOTA = 0.25
LEARNED_SHARE = 0.1
"""Of the time watched, in which the first copy is not known yet."""


@pytest.mark.parametrize("form", COPY_FORMS)
def test_copies_on_a_card_are_its_work(form: str) -> None:
    card = run("copy_forms", form, "card", str(COPIED_MS), quotas=(QUOTA, QUOTA), copies=True)[0]
    assert card.charged_ns == pytest.approx(card.true_ns, rel=MEASURED_SHARE)
    assert card.true_ns == pytest.approx(QUOTA * COPIED_MS * 10**6, rel=LEARNED_SHARE)


@pytest.mark.parametrize("places", ["host", "cards"])
@pytest.mark.parametrize("form", COPY_FORMS)
def test_copies_from_elsewhere_are_nobodys(form: str, places: str) -> None:
    if places == "host" and "peer" in form:
        return
    for card in run("copy_forms", form, places, "5", quotas=(QUOTA, QUOTA)):
        assert card.charged_ns == 0


def test_a_copy_is_not_held_while_it_is_recorded() -> None:
    high = CardLimits(UUIDS[0], MEMORY_BYTES, priority=0)
    with Simulation(start=2) as sim:
        regions = make_neighbours(sim.folder / "regions", [high, replace(high, priority=1)], memory_bytes=MEMORY_BYTES)
        words = [launcher_program(), "kernel_us=1000", "until_ms=400"]
        flood = sim.start(words, hook=True, region=regions[0].path, rank=0)
        client = sim.start([building.client("copy_recorded", "-lcuda")], hook=True, region=regions[1].path, rank=1)
        lines = dict(line.split() for line in sim.wait(flood, client)[1].splitlines())
    assert int(lines["inside"]) < 100
    assert int(lines["outside"]) > 100_000
