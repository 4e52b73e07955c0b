"""Columns of a table from what was worked out by (row, window): keys, facts, numbers; to Arrow by the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from pipeline.contract.tables import Table, Type
from pipeline.rollup import Flags, Floats, Ints, Numbers

_TIME_SHIFT: Final = 32
_TEXT_MASK: Final = (1 << _TIME_SHIFT) - 1

_ARROW_TYPES: Final[Mapping[Type, pa.DataType]] = {
    "STRING": pa.string(),
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "DOUBLE": pa.float64(),
    "BINARY": pa.binary(),
    "ARRAY<DOUBLE>": pa.list_(pa.float64()),
    "ARRAY<STRING>": pa.list_(pa.string()),
}


@dataclass(frozen=True, slots=True)
class Texts:
    """A text for each (row, window), or each row when ``code`` has one dimension: number of the text in ``texts``."""

    code: Numbers
    texts: tuple[str, ...]


def texts_by_row(values: Sequence[str]) -> Texts:
    """One text for each row."""
    texts = tuple(sorted({"", *values}))
    number = {text: index for index, text in enumerate(texts)}
    return Texts(np.array([number[value] for value in values], np.int32), texts)


def latest_texts(values: Sequence[str], row: Numbers, *, last: Numbers, row_count: int) -> Texts:
    """The text at the greatest time for each (row, window), of equal times the greatest text, empty where none.

    ``values`` and ``row`` are by series; ``last`` (series, windows) is the greatest sample time, -1 = no sample.
    """
    texts = tuple(sorted({"", *values}))
    number = {text: index for index, text in enumerate(texts)}
    code = np.array([number[value] for value in values], np.int64).reshape(-1, 1)
    packed = np.where((last >= 0) & (code > 0), (last.astype(np.int64) << _TIME_SHIFT) | code, 0)
    return Texts((greatest_by_row(packed, row, row_count=row_count) & _TEXT_MASK).astype(np.int32), texts)


def greatest_by_row(values: Ints, row: Numbers, *, row_count: int) -> Ints:
    """Greatest of ``values`` (n, windows) >= 0 for each row, 0 where a row has none; shape (row_count, windows)."""
    result = np.zeros((row_count, values.shape[1]), np.int64)
    if len(row):
        order = np.argsort(row, kind="stable")
        starts = np.flatnonzero(np.diff(row[order], prepend=-1))
        result[row[order][starts]] = np.maximum.reduceat(values[order], starts, axis=0)
    return result


def complete(texts: Texts, by_row: Sequence[str]) -> Texts:
    """Fill empty texts from one value for each row."""
    all_texts = tuple(sorted({*texts.texts, *by_row}))
    number = {text: index for index, text in enumerate(all_texts)}
    old = np.array([number[text] for text in texts.texts], np.int32)[texts.code]
    fallback = np.array([number[text] for text in by_row], np.int32).reshape(-1, 1)
    return Texts(np.where(old == number[""], fallback, old).astype(np.int32), all_texts)


Value = Texts | Floats | Ints | Numbers


def to_arrow(table: Table, values: Mapping[str, Value], *, exists: Flags, window_start_ms: Ints) -> pa.Table:
    """The rows that exist, by row and window, with the contract's columns; NaN becomes NULL.

    ``exists`` has shape (rows, windows); each of ``values`` that or (rows,); ``window_start_ms`` is by window.
    """
    row, window = np.nonzero(exists)
    arrays = []
    for column in table.columns:
        kind = _ARROW_TYPES[column.type]
        if column.aggregate == "window":
            arrays.append(pa.array(window_start_ms[window], kind))
            continue
        value = values[column.name]
        if isinstance(value, Texts):
            code = value.code[row] if value.code.ndim == 1 else value.code[row, window]
            arrays.append(pa.DictionaryArray.from_arrays(code, pa.array(value.texts, pa.string())))
        else:
            picked = value[row] if value.ndim == 1 else value[row, window]
            arrays.append(pa.array(picked, kind, from_pandas=True))
    return pa.table(dict(zip(table.column_names(), arrays, strict=True)))


def schema(table: Table) -> pa.Schema:
    """Arrow types of a table's columns."""
    return pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in table.columns])
