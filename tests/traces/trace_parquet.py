"""Writes the long form that ``egpu-runtime replay --trace`` reads, as Parquet, piece by piece."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from egpu_runtime.fleet.trace import COLUMNS

TEXTS = tuple(column.name for column in COLUMNS if column.kind == "text")
SCHEMA = pa.schema(
    [
        (column.name, pa.int64() if column.kind == "time" else pa.string() if column.kind == "text" else pa.float64())
        for column in COLUMNS
    ]
)


def write_trace(
    path: Path, who: Sequence[Mapping[str, str]], pieces: Iterable[tuple[npt.NDArray[np.int64], dict[str, object]]]
) -> int:
    """Write rows and return their number.

    ``who`` holds the text columns of each container (a missing one is empty); a piece is the container of each row
    and the other columns: arrays of one value a row, NaN = empty.
    """
    texts = {name: pa.array([labels.get(name, "") for labels in who], pa.string()) for name in TEXTS}
    count = 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for container, columns in pieces:
            arrays = {name: values.take(pa.array(container)) for name, values in texts.items()}
            arrays |= {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
            writer.write_table(pa.table({name: arrays[name] for name in SCHEMA.names}, SCHEMA))
            count += len(container)
    return count
