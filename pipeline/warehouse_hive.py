"""HiveServer2: reports, the tables and views in its metastore, partitions. This stage's one door to PyHive."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import thrift_sasl
from pyhive import exc, hive
from pyhive.sasl_compat import PureSASLClient
from thrift.Thrift import TException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransport

from egpu_runtime.contract.process import Failure
from pipeline.contract.advice_tables import ADVICE_TABLES
from pipeline.contract.ddl import SCHEMA_PROPERTY, hive_ddl, hive_location
from pipeline.contract.dialect import HIVE
from pipeline.contract.hive import (
    FETCH_ROWS,
    SESSION_SETTINGS,
    Connection,
    Door,
    Fetched,
    HiveLimits,
    HiveSession,
    parse_address,
)
from pipeline.contract.tables import CONTAINER_USAGE, TABLES, WAREHOUSE_SCHEMA_VERSION, Table
from pipeline.reports import REPORTS, Answer, view_ddl

_PARTITIONS_PER_STATEMENT: Final = 200

logging.getLogger("pyhive").setLevel(logging.WARNING)  # it would log every statement
logging.getLogger("thrift").setLevel(logging.CRITICAL)  # what it would log is raised as well


class HiveServer:
    """One session of a HiveServer2, as ``with HiveServer(url) as server``. Every failure is a Failure of one line."""

    def __init__(self, url: str, limits: HiveLimits | None = None) -> None:
        self._address = parse_address(url)
        self._limits = limits or HiveLimits()
        exceptions = (exc.Error, TException, OSError, EOFError)
        self._session = HiveSession(self._address, Door(self._connect, exceptions, time.monotonic), self._limits)

    def _connect(self) -> Connection:
        address = self._address
        socket = TSocket(address.host, address.port)
        socket.setTimeout(self._limits.answer_seconds * 1000)
        self._transport = TBufferedTransport(socket)
        if address.authentication != "NOSASL":
            # PLAIN wants a password that is not empty even where none is checked.
            login = {"username": address.user, "password": address.password or "-"}
            self._transport = thrift_sasl.TSaslClientTransport(
                lambda: PureSASLClient(address.host, **login), "PLAIN", socket
            )
        connection: Connection = hive.connect(
            database=address.database,
            username=address.user,
            configuration=dict(SESSION_SETTINGS),
            thrift_transport=self._transport,
        )
        return connection

    def __enter__(self) -> "HiveServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session; the way to a server that is gone is given up as well."""
        self._session.close()
        self._transport.close()

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self._session.execute(statement)

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        """All rows of a SELECT that is known to be small."""
        return self._session.rows(select)

    def batches(self, select: str, rows_max: int = FETCH_ROWS) -> Iterator[Fetched]:
        """(columns, rows) a fetch at a time, so that memory is bounded by ``rows_max``."""
        return self._session.batches(select, rows_max)

    def report(self, sql: str) -> Answer:
        """Run a report's SELECT."""
        fetched = list(self.batches(sql))
        names = tuple(name for name, _ in fetched[0][0])
        return Answer(names, tuple(row for _, rows in fetched for row in rows), sql)

    def check_version(self, table: Table) -> None:
        """Raises Failure where a table is missing or newer than this program."""
        self._session.check_version(table)

    def check_versions(self) -> None:
        """Raises Failure where a table of reports is missing or newer than this program."""
        known = {str(name) for (name,) in self.rows("SHOW TABLES")}
        for table in {report.table.name: report.table for report in REPORTS.values()}.values():
            if table.name not in known:
                raise Failure(f"{self._address}: no table {table.name} in it; egpu-pipeline tables makes it")
            self._session.check_version(table)

    def check_hours(self) -> None:
        """Raises Failure where no hour is registered at all: an empty report would look like a fleet without work."""
        if not self.rows(f"SHOW PARTITIONS {CONTAINER_USAGE.name}"):
            raise Failure(f"{self._address}: no finalised hour in its tables yet; egpu-pipeline tables registers them")

    def partition_counts(self) -> dict[str, int]:
        """Registered partitions of each table that has any, by name."""
        tables = (table for table in (*TABLES, *ADVICE_TABLES) if table.partitions)
        return {table.name: len(self.rows(f"SHOW PARTITIONS {table.name}")) for table in tables}

    def ensure_tables(self, folder: str) -> None:
        """Create the tables over ``folder``/TABLE and the views of the reports where they are not, register folders.

        Idempotent. ``folder`` is a URI as Hive's file systems know it, or an absolute path on the local one. A table
        that lies elsewhere or is newer is refused.
        """
        # Folders whose names are no partitions are passed over by MSCK.
        self.execute("SET hive.msck.path.validation=ignore")
        for table in (*TABLES, *ADVICE_TABLES):
            self.execute(hive_ddl(table, folder))
            self._session.check_version(table)
            self._check_location(table, folder)
            self.execute(
                f"ALTER TABLE {table.name} SET TBLPROPERTIES ('{SCHEMA_PROPERTY}' = '{WAREHOUSE_SCHEMA_VERSION}')"
            )
            if table.partitions:
                self.execute(f"MSCK REPAIR TABLE {table.name} SYNC PARTITIONS")
        for report in REPORTS.values():
            self.execute(view_ddl(report))

    def _check_location(self, table: Table, folder: str) -> None:
        rows = self.rows(f"DESCRIBE FORMATTED {table.name}")
        found = next((str(row[1]).strip() for row in rows if str(row[0]).strip() == "Location:"), "")
        wanted = hive_location(table, folder)
        if _path(found) != _path(wanted):
            raise Failure(f"{self._address}: table {table.name} lies in {found}, not in {wanted}")

    def add_partitions(self, table: Table, partitions: Iterable[Sequence[str]]) -> None:
        """Register partitions, each the values of ``table.partitions``; those that are registered stay."""
        self._alter_partitions(table, "ADD IF NOT EXISTS", " ", partitions)

    def drop_partitions(self, table: Table, partitions: Iterable[Sequence[str]]) -> None:
        """Take partitions out of the metastore; files of external tables stay."""
        self._alter_partitions(table, "DROP IF EXISTS", ", ", partitions)

    def _alter_partitions(self, table: Table, verb: str, between: str, partitions: Iterable[Sequence[str]]) -> None:
        waiting = iter(partitions)
        while some := list(islice(waiting, _PARTITIONS_PER_STATEMENT)):
            named = (
                ", ".join(
                    f"{HIVE.identifier(name)}={HIVE.literal(value)}"
                    for name, value in zip(table.partitions, values, strict=True)
                )
                for values in some
            )
            self.execute(f"ALTER TABLE {table.name} {verb} {between.join(f'PARTITION ({each})' for each in named)}")


def _path(location: str) -> str:
    """A location without what Hive may write in several ways: ``file:/a`` and ``file:///a``, a slash at the end."""
    scheme, found, rest = location.rstrip("/").partition(":")
    return f"{scheme}:{rest.replace('///', '/', 1)}" if found else scheme
