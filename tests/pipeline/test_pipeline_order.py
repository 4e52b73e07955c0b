"""Rows are a function of the set of samples in the log: shuffled, split, doubled, late, in several runs."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import Sample, append

RECEIVED_MS = START_MS + 10 * HOUR_MS


def batches_of(samples: list[Sample], chance: random.Random) -> list[list[Sample]]:
    """Shuffle within a reach, double some, split into batches."""
    reach = chance.choice([1, 20, len(samples)])
    order = sorted(range(len(samples)), key=lambda index: index + chance.random() * reach)
    mixed = [samples[index] for index in order]
    mixed += chance.sample(samples, len(samples) // 4)
    batches = []
    while mixed:
        size = chance.choice([1, 7, 50, 400])
        batches.append(mixed[:size])
        mixed = mixed[size:]
    return batches


def write_in_parts(
    folder: Path, samples: list[Sample], *, chance: random.Random, between: Callable[[], object]
) -> None:
    """Write the batches as a few segments, with something done in between."""
    batches = batches_of(samples, chance)
    parts = chance.randint(1, 3)
    for part in range(parts):
        for segment in (2 * part + 1, 2 * part + 2):
            count = -(-len(batches) // (2 * parts))
            start = (segment - 1) * count
            append(folder / "log", batches[start : start + count], received_ms=RECEIVED_MS + segment, segment=segment)
        between()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_order_does_not_matter(run_log, rows_of, seed: int) -> None:  # type: ignore[no-untyped-def]
    chance = random.Random(seed)
    samples = fleet(seed % 5, hours=3)
    with tempfile.TemporaryDirectory() as name:
        straight, mixed = Path(name) / "straight", Path(name) / "mixed"
        straight.mkdir()
        mixed.mkdir()
        append(straight / "log", [samples], received_ms=RECEIVED_MS)
        run_log(straight)
        bounds = {
            "batch_samples_max": chance.choice([1, 100, 10_000]),
            "open_samples_max": chance.choice([300, 100_000]),
            "series_count_max": 10_000,
            "lateness_seconds": chance.choice([0, 300, 86_400]),
            "checkpoint_seconds": 0,
        }
        write_in_parts(mixed, samples, chance=chance, between=lambda: run_log(mixed, **bounds))
        expected = rows_of(straight)
        assert expected["container_usage_5m"]
        assert rows_of(mixed) == expected


def test_the_series_cache_may_start_afresh(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = fleet(1, hours=2)
    append(tmp_path / "log", [samples[i : i + 3] for i in range(0, len(samples), 3)], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    run_log(tmp_path, "small", series_count_max=7, lateness_seconds=86_400)
    assert rows_of(tmp_path, "small") == rows_of(tmp_path)


def test_the_rows_do_depend_on_the_samples(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = fleet(1, hours=1)
    append(tmp_path / "log", [samples], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    before = rows_of(tmp_path)
    labels = next(labels for labels, _, _ in samples if labels["__name__"] == "egpu_container_core_used_ratio")
    append(tmp_path / "log", [[(labels, START_MS + 1, 7.0)]], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    assert rows_of(tmp_path) != before
