"""Reports from a folder of tables, by DuckDB."""

from pathlib import Path

import duckdb

from egpu_runtime.contract.process import Failure
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.tables import DATA_FILE, TABLES
from pipeline.reports import UNATTRIBUTED, Answer


def report(folder: Path, sql: str) -> Answer:
    """Run a report's SELECT over the finalised hours of a warehouse folder. Raises Failure where it cannot."""
    if not folder.is_dir():
        raise Failure(f"no warehouse folder {folder}")
    with duckdb.connect() as connection:
        try:
            for table in (view for view in TABLES if view.name in sql):
                if not any((folder / table.name).rglob(DATA_FILE)):
                    raise Failure(f"no finalised hour in the warehouse {folder} yet: run egpu-pipeline run")
                connection.execute(duckdb_ddl(table, str(folder)))
            cursor = connection.execute(sql)
            columns = tuple(column[0] for column in cursor.description or ())
            return Answer(columns, tuple(cursor.fetchall()), sql)
        except duckdb.Error as error:
            # Its first line names the file where there is one to blame.
            raise Failure(f"cannot read the tables in {folder}: {str(error).splitlines()[0]}") from error


def attribution_of_last_day(folder: Path) -> Answer:
    """How many rows of the last day have which attribution."""
    return report(folder, UNATTRIBUTED)
