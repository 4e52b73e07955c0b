"""A warehouse of an older program is gone on with: places of schema 1, and manifests that Hive would have read."""

import json
from pathlib import Path

import pyarrow.parquet as pq
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import append

from pipeline.contract.tables import DATA_FILE

RECEIVED_MS = START_MS + 10 * HOUR_MS


def older(facts: object) -> object:
    """Facts as schema 1 had them: one position for a place."""
    if isinstance(facts, dict):
        if "places" in facts:
            return facts["places"][0]
        return {name: older(value) for name, value in facts.items()} | (
            {"schema_version": 1} if "schema_version" in facts else {}
        )
    return facts


def make_older(warehouse: Path) -> None:
    checkpoint = warehouse / "state/checkpoint.json"
    checkpoint.write_text(json.dumps(older(json.loads(checkpoint.read_text()))))
    for path in warehouse.rglob(DATA_FILE):
        facts = (pq.read_metadata(path).metadata or {}).get(b"egpu")
        if facts is None:
            continue
        table = pq.ParquetFile(path).read()
        with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"egpu": json.dumps(older(json.loads(facts)))})
        (path.parent / "_manifest.json").rename(path.parent / "manifest.json")


def test_a_warehouse_of_schema_1_is_gone_on_with(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = fleet(4, hours=3)
    late, rest = samples[:40], samples[40:]
    append(tmp_path / "log", [rest[:200], rest[200:]], received_ms=RECEIVED_MS, identity="a" * 32)
    run_log(tmp_path)
    make_older(tmp_path / "warehouse")
    some = next((tmp_path / "warehouse/gpu_usage_5m").rglob(DATA_FILE))
    assert b"places" not in pq.read_metadata(some).metadata[b"egpu"]
    assert run_log(tmp_path).hours == 0
    append(tmp_path / "log", [late], received_ms=RECEIVED_MS, identity="a" * 32)
    assert run_log(tmp_path).hours_made_again == 1
    run_log(tmp_path, "undisturbed")
    assert rows_of(tmp_path) == rows_of(tmp_path, "undisturbed")
    assert not list((tmp_path / "warehouse").rglob("manifest.json"))
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "warehouse").rglob("gpu*/*/*/_manifest.json")]
    assert sorted(facts["hour"]["schema_version"] for facts in manifests) == [1, 1, 2]
