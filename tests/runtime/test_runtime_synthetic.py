"""Made-up fleets: the same seed is the same fleet, and what was planted is true of the rows."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pytest
from recording_receiver import RecordingReceiver, recording_receiver

from egpu_runtime.__main__ import app
from egpu_runtime.contract.process import run
from egpu_runtime.fleet.fleet_spec import FleetSpec, SpecError, WorkloadGroup, read_fleet_spec
from egpu_runtime.fleet.planted import Fleet, PlantedWorkload, synthesize
from egpu_runtime.fleet.trace import Rows

SMALL = FleetSpec(days=14, sample_seconds=600)
SEEDS = (1, 2, 3)


def fingerprint(fleet: Fleet) -> str:
    digest = hashlib.sha256(repr((fleet.trace.containers, fleet.planted, fleet.silent_days)).encode())
    for rows in fleet.trace.chunks():
        for name in Rows.__slots__:
            digest.update(getattr(rows, name).tobytes())
    digest.update(fleet.trace.end_ms.tobytes())
    return digest.hexdigest()


def test_a_seed_names_a_fleet() -> None:
    first, again, other = (fingerprint(synthesize(seed, SMALL)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_the_default_fleet_is_as_large_as_it_says() -> None:
    fleet = synthesize(7, FleetSpec())
    assert len(fleet.planted) == 43
    live = [c for c, end in zip(fleet.trace.containers, fleet.trace.end_ms, strict=True) if end > fleet.trace.last_ms]
    assert len({c.gpu_uuid for c in live}) == 45
    assert (fleet.trace.last_ms - fleet.trace.first_ms) / 86_400_000 == pytest.approx(28, abs=0.01)
    assert len({c.pod_uid for c in fleet.trace.containers}) == len(fleet.trace.containers)


class Truth:
    """A fleet's rows beside what was planted."""

    def __init__(self, seed: int) -> None:
        self.fleet = synthesize(seed, SMALL)
        self.rows = Rows.joined(list(self.fleet.trace.chunks()))
        self.workload = [(c.namespace, c.workload) for c in self.fleet.trace.containers]

    def of(self, *roles: str) -> Iterator[tuple[PlantedWorkload, Rows]]:
        for planted in self.fleet.planted:
            if planted.role in roles:
                key = (planted.namespace, planted.workload)
                own = np.array([k for k, who in enumerate(self.workload) if who == key])
                mask = np.isin(self.rows.container, own)
                yield planted, Rows(*(getattr(self.rows, name)[mask] for name in Rows.__slots__))


@pytest.fixture
def receiver() -> Iterator[RecordingReceiver]:
    with recording_receiver() as recording:
        yield recording


@pytest.fixture(params=SEEDS, scope="module")
def truth(request: pytest.FixtureRequest) -> Truth:
    return Truth(request.param)


def test_rows_are_sorted_counted_and_unique(truth: Truth) -> None:
    rows = truth.rows
    assert len(rows) == truth.fleet.trace.row_count
    assert np.all(np.diff(rows.timestamp_ms) >= 0)
    assert len(set(zip(rows.timestamp_ms.tolist(), rows.container.tolist(), strict=True))) == len(rows)
    assert int(rows.timestamp_ms[0]) == truth.fleet.trace.first_ms == 1_767_571_200_000
    assert int(rows.timestamp_ms[-1]) == truth.fleet.trace.last_ms


def test_idle_ones_leave_most_of_their_card_and_go_on_so(truth: Truth) -> None:
    for planted, rows in truth.of("idle"):
        card = rows.memory_total_bytes[0]
        assert rows.memory_quota_bytes[0] == card
        assert np.nanmax(rows.memory_used_bytes) < 0.21 * card
        assert max(planted.next_week_memory_bytes_max) <= np.nanmax(rows.memory_used_bytes) + 0.02 * card
        assert np.nanmax(rows.core_used_ratio) <= 0.08
        assert planted.idle_quota == "advised"


def test_what_is_to_be_cut_can_be_cut_by_a_fifth(truth: Truth) -> None:
    for planted in truth.fleet.planted:
        if planted.idle_quota == "advised":
            (_, rows), *_ = ((p, r) for p, r in truth.of(planted.role) if p == planted)
            memory = (max(planted.next_week_memory_bytes_max) + (512 << 20)) / rows.memory_quota_bytes[0]
            core = max(planted.next_week_core_ratio_max) * 1.15 / rows.core_quota_ratio[0]
            assert min(memory, core) < 0.8, planted.workload


def test_what_is_to_stay_cannot_be_cut_by_a_fifth(truth: Truth) -> None:
    for planted in truth.fleet.planted:
        if planted.idle_quota == "unchanged":
            (_, rows), *_ = ((p, r) for p, r in truth.of(planted.role) if p == planted)
            assert np.nanmax(rows.memory_used_bytes) > 0.82 * rows.memory_quota_bytes[0], planted.workload
            assert np.nanmax(rows.core_used_ratio) * 1.15 > 0.9 * rows.core_quota_ratio[0], planted.workload


def test_full_ones_are_full(truth: Truth) -> None:
    for planted, rows in truth.of("training", "busy"):
        assert max(planted.next_week_memory_bytes_max) > 0.8 * rows.memory_quota_bytes[0] or planted.role == "training"
        assert np.nanmax(rows.memory_used_bytes) > 0.8 * rows.memory_quota_bytes[0]
        assert np.nanmax(rows.memory_used_bytes) <= rows.memory_quota_bytes[0]


def test_pairs_never_meet(truth: Truth) -> None:
    pairs = {planted.workload: (planted, rows) for planted, rows in truth.of("pair")}
    assert pairs
    for planted, rows in pairs.values():
        other, _ = pairs[planted.partner]
        card = rows.memory_total_bytes[0]
        assert other.partner == planted.workload
        mine, theirs = (np.array(p.next_week_memory_bytes_max) for p in (planted, other))
        assert (mine + theirs).max() < 0.89 * card
        assert mine.max() + theirs.max() > card
        cores = np.array(planted.next_week_core_ratio_max) + np.array(other.next_week_core_ratio_max)
        assert cores.max() < 0.9


def test_growth_is_linear_and_goes_on(truth: Truth) -> None:
    for planted, rows in truth.of("growing"):
        assert 0.04 <= planted.growth_per_week <= 0.07
        weeks = [rows.part(start, start + len(rows) // 2) for start in (0, len(rows) // 2)]
        first, second = (np.nanmax(week.memory_used_bytes) for week in weeks)
        assert first * 1.01 < second < max(planted.next_week_memory_bytes_max)


def test_preallocating_is_constant(truth: Truth) -> None:
    for planted, rows in truth.of("preallocating"):
        assert planted.refusal == "pre-allocating"
        assert np.nanmedian(rows.memory_used_bytes) == np.nanmax(rows.memory_used_bytes)
        assert np.nanmax(rows.memory_used_bytes) == pytest.approx(0.92 * rows.memory_quota_bytes[0], rel=1e-3)


def test_night_idle_computes_nothing_at_night_and_something_by_day(truth: Truth) -> None:
    for planted, rows in truth.of("night_idle"):
        hour = rows.timestamp_ms // 3_600_000 % 24
        seen = ~np.isnan(rows.core_used_ratio)
        assert np.all(rows.core_used_ratio[seen & ((hour >= 20) | (hour < 7))] == 0)
        assert np.all(rows.core_used_ratio[seen & (hour >= 8) & (hour < 19)] > 0)
        assert planted.trainable
        assert np.array(planted.next_week_core_ratio_max).reshape(7, 24)[:, 20:].max() == 0


def test_nobody_else_is_idle_for_an_hour(truth: Truth) -> None:
    """An hour is six samples here; a health check comes every five."""
    for planted in truth.fleet.planted:
        if planted.trainable is False:
            (_, rows), *_ = ((p, r) for p, r in truth.of(planted.role) if p == planted)
            assert np.nanmin(rows.core_used_ratio) > 0, planted.workload


def test_unobserved_and_young_ones_are_so(truth: Truth) -> None:
    for _, rows in truth.of("unobserved"):
        assert np.isnan(rows.memory_used_bytes).mean() == pytest.approx(17 / 24, abs=0.01)
    for _, rows in truth.of("young"):
        assert 1.5 < np.ptp(rows.timestamp_ms) / 86_400_000 < 2.6


def test_one_exporter_is_silent_for_a_day(truth: Truth) -> None:
    ((node, day),) = truth.fleet.silent_days
    on_node = np.array([k for k, c in enumerate(truth.fleet.trace.containers) if c.node == node])
    day_of = (truth.rows.timestamp_ms - truth.fleet.trace.first_ms) // 86_400_000
    gone = np.isin(truth.rows.container, on_node) & (day_of == day)
    assert gone.any()
    assert np.isnan(truth.rows.memory_used_bytes[gone]).all()
    unobserved = np.isin(truth.rows.container, [k for k, w in enumerate(truth.workload) if w in self_unobserved(truth)])
    assert not np.isnan(truth.rows.memory_used_bytes[~gone & ~unobserved]).any()


def self_unobserved(truth: Truth) -> set[tuple[str, str]]:
    return {(p.namespace, p.workload) for p in truth.fleet.planted if p.role == "unobserved"}


def test_restarts_are_new_pods_of_the_same_workload_on_the_same_card(truth: Truth) -> None:
    for planted, _ in truth.of("restarting"):
        key = (planted.namespace, planted.workload)
        pods = [c for c, who in zip(truth.fleet.trace.containers, truth.workload, strict=True) if who == key]
        assert len(pods) >= 2
        assert len({c.gpu_uuid for c in pods}) == 1
        assert planted.replicas == 1


def test_replicas_are_on_cards_of_their_own_or_crowded(truth: Truth) -> None:
    for role, cards in (("replicated", 3), ("crowded", 1)):
        for planted, _ in truth.of(role):
            key = (planted.namespace, planted.workload)
            pods = [c for c, who in zip(truth.fleet.trace.containers, truth.workload, strict=True) if who == key]
            assert len(pods) == planted.replicas
            assert len({c.gpu_uuid for c in pods}) == cards


def test_a_spec_says_what_is_in_the_fleet(tmp_path, receiver) -> None:
    spec = tmp_path / "fleet.toml"
    spec.write_text('days = 2\nsample_seconds = 3600\n[[workloads]]\nrole = "pair"\nmodel = "T4"\ncount = 2\n')
    planted, told = tmp_path / "planted.json", tmp_path / "summary.json"
    with pytest.raises(SystemExit) as ended:
        run(
            app,
            [
                "replay",
                "--synthetic",
                "3",
                "--fleet-spec",
                str(spec),
                "--remote-write",
                receiver.url,
                "--planted",
                str(planted),
                "--summary-file",
                str(told),
            ],
        )
    assert ended.value.code == 0
    truth = json.loads(planted.read_text())["planted"]
    assert [workload["role"] for workload in truth] == ["pair"] * 4
    assert json.loads(told.read_text())["samples_sent"] == 4 * (48 * 10 + 6)


BAD_SPECS = {
    "not TOML": ("days =", "not TOML"),
    "unknown role": ('[[workloads]]\nrole = "lazy"\nmodel = "T4"\n', "Invalid enum value 'lazy'"),
    "unknown model": ('[[workloads]]\nrole = "idle"\nmodel = "H20"\n', "Invalid enum value 'H20'"),
    "no days": ("days = 0", "Expected `int` >= 1"),
    "odd interval": ("sample_seconds = 7", "sample_seconds 7 does not divide a day"),
    "nobody": ("workloads = []", "no workloads"),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_bad_specs_are_one_sentence(case: str) -> None:
    text, expected = BAD_SPECS[case]
    with pytest.raises(SpecError, match=expected):
        read_fleet_spec(text)


def test_a_spec_may_have_more_workloads_than_names() -> None:
    many = FleetSpec(days=1, sample_seconds=3600, workloads=(WorkloadGroup(role="idle", model="T4", count=1000),))
    fleet = synthesize(1, many)
    assert len({(p.namespace, p.workload) for p in fleet.planted}) == 1000
