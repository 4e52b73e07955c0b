"""Samples counted on both sides of the pipeline, by nobody's word but the log's and the tables'."""

import sqlite3
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collector.contract.record import SEGMENT_SUFFIX
from collector.contract.samples import SampleDecoder
from egpu_runtime.contract.units import STALE_MARKER_BITS
from pipeline.contract.tables import CONTAINER_USAGE, DATA_FILE, GPU_USAGE

NAME = "__name__"


def samples_in_log(log: Path, names: frozenset[str]) -> int:
    """Samples of series with these names in a log folder, stale markers left out."""
    decoder = SampleDecoder()
    wanted: list[bool] = []
    count = 0
    for segment in sorted(log.glob(f"*{SEGMENT_SUFFIX}")):
        with sqlite3.connect(f"{segment.absolute().as_uri()}?mode=ro", uri=True) as connection:
            for (block,) in connection.execute("SELECT block FROM record ORDER BY row"):
                samples = decoder.decode(block)
                for series in range(len(wanted), decoder.series_count):
                    wanted.append(dict(decoder.labels(series)).get(NAME) in names)
                counted = np.array(wanted, np.bool_)[samples.series]
                counted &= samples.value.view(np.uint64) != STALE_MARKER_BITS
                count += int(counted.sum())
        connection.close()
    return count


def samples_in_tables(warehouse: Path) -> int:
    """Sum of ``sample_count`` over the rows of containers and of cards: samples of their memory use."""
    count = 0
    for table in (CONTAINER_USAGE, GPU_USAGE):
        for file in (warehouse / table.name).rglob(DATA_FILE):
            counts = pq.ParquetFile(file).read(columns=["sample_count"])["sample_count"]
            count += pc.sum(counts).as_py() or 0
    return count
