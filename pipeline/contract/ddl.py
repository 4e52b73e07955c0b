"""DDL of the tables for Hive, Flink and DuckDB, generated from their columns."""

from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.contract.dialect import HIVE
from pipeline.contract.tables import SERIES_WINDOWS, WAREHOUSE_SCHEMA_VERSION, Column, Table, Type

SCHEMA_PROPERTY: Final = "effective-gpu.schema"
"""Table property that holds the schema version where the folder with its manifests is not at hand."""

_DUCKDB_TYPES: Final[Mapping[Type, str]] = {
    "STRING": "VARCHAR",
    "BIGINT": "BIGINT",
    "INT": "INTEGER",
    "DOUBLE": "DOUBLE",
    "BINARY": "BLOB",
    "ARRAY<DOUBLE>": "DOUBLE[]",
    "ARRAY<STRING>": "VARCHAR[]",
}


_COMMIT_BY_WATERMARK: Final[Mapping[str, str]] = {
    "sink.partition-commit.policy.kind": "metastore,success-file",
    "sink.partition-commit.trigger": "partition-time",
    "sink.partition-commit.delay": "1 h",
    "sink.partition-commit.watermark-time-zone": "UTC",
    "partition.time-extractor.timestamp-pattern": "$dt $hour:00:00",
}
"""Options of Flink's Hive sink: a partition is committed when the watermark reaches its start and one hour."""


def _comment(column: Column) -> str:
    text = f"{column.help} [{column.unit}]" if column.unit else column.help
    return text.replace("'", "")


def hive_location(table: Table, folder: str) -> str:
    """Where a table's files lie, as a URI; ``folder`` without a scheme is one of the local file system."""
    return f"{folder if ':' in folder or folder.startswith('$') else f'file://{folder}'}/{table.name}"


def hive_ddl(table: Table, folder: str) -> str:
    """CREATE EXTERNAL TABLE for Hive over ``folder``/TABLE; partition columns are strings.

    What the Flink job appends to is committed by Flink itself, an hour when the watermark has passed its end.
    """
    columns = ",\n".join(f"  `{c.name}` {c.type} COMMENT '{_comment(c)}'" for c in table.columns)
    partitions = ", ".join(f"`{name}` STRING" for name in table.partitions)
    by = f"\nPARTITIONED BY ({partitions})" if partitions else ""
    properties = {
        SCHEMA_PROPERTY: str(WAREHOUSE_SCHEMA_VERSION),
        "parquet.compression": "SNAPPY",
        **(_COMMIT_BY_WATERMARK if table is SERIES_WINDOWS else {}),
    }
    listed = ",\n  ".join(f"'{name}' = '{value}'" for name, value in properties.items())
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {table.name} (\n{columns}\n){by}\nSTORED AS PARQUET\n"
        f"LOCATION '{hive_location(table, folder)}'\nTBLPROPERTIES (\n  {listed}\n);\n"
    )


def hive_insert(table: Table, partition: Mapping[str, str], lines: Sequence[str]) -> str:
    """INSERT OVERWRITE of one partition from JSON objects of texts, one a row: other rows of it are gone, so it can be
    done again. One literal holds all rows, since a VALUES of thousands of them takes Hive's parser minutes."""
    of = ", ".join(f"{HIVE.identifier(name)}={HIVE.literal(value)}" for name, value in partition.items())
    fields = [f"f{number}" for number in range(len(table.columns))]
    values = (f"CAST({field} AS {column.type})" for field, column in zip(fields, table.columns, strict=True))
    names = ", ".join(HIVE.literal(column.name) for column in table.columns)
    text = HIVE.literal("\n".join(lines))
    return (
        f"INSERT OVERWRITE TABLE {table.name} PARTITION ({of})\nSELECT {', '.join(values)}\n"
        f"FROM (SELECT explode(split({text}, '\\n')) AS line) texts\n"
        f"LATERAL VIEW json_tuple(line, {names}) fields AS {', '.join(fields)}\nWHERE line <> ''"
    )


def flink_ddl(table: Table, folder: str) -> str:
    """CREATE TABLE for Flink SQL over the same folders (filesystem connector), for those who run no Hive."""
    types: Mapping[Type, str] = {"BINARY": "BYTES"}
    fields = [f"  `{c.name}` {types.get(c.type, c.type)}" for c in table.columns]
    fields += [f"  `{name}` STRING" for name in table.partitions]
    by = f" PARTITIONED BY ({', '.join(f'`{name}`' for name in table.partitions)})" if table.partitions else ""
    body = ",\n".join(fields)
    options = f"'connector' = 'filesystem', 'path' = '{folder}/{table.name}', 'format' = 'parquet'"
    return f"CREATE TABLE {table.name} (\n{body}\n){by} WITH ({options});\n"


def duckdb_ddl(table: Table, folder: str) -> str:
    """A DuckDB view over the finalised files of ``folder``; ``{TABLE}`` reads as in Hive."""
    columns = ", ".join(f'"{c.name}"::{_DUCKDB_TYPES[c.type]} AS "{c.name}"' for c in table.columns)
    columns += "".join(f', "{name}"::VARCHAR AS "{name}"' for name in table.partitions)
    depth = "/*" * len(table.partitions)
    glob = f"{folder}/{table.name}{depth}/{table.files}".replace("'", "''")
    partitioned = "true" if table.partitions else "false"
    source = f"read_parquet('{glob}', hive_partitioning = {partitioned}, hive_types_autocast = false)"
    return f"CREATE OR REPLACE VIEW {table.name} AS SELECT {columns} FROM {source};\n"
