"""The tables behind a HiveServer2, read and written. The advisor's one door to PyHive."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import thrift_sasl
from pyhive import exc, hive
from pyhive.sasl_compat import PureSASLClient
from thrift.Thrift import TException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransport

from egpu_runtime.contract.process import Failure
from pipeline.contract.ddl import hive_insert
from pipeline.contract.dialect import HIVE, Dialect
from pipeline.contract.hive import SESSION_SETTINGS, Connection, Door, HiveLimits, HiveSession, parse_address
from pipeline.contract.tables import CONTAINER_USAGE, WORKLOAD_PROFILE, Table

_ARROW_TYPES: Final[Mapping[str, Any]] = {
    "STRING_TYPE": pa.string(),
    "BIGINT_TYPE": pa.int64(),
    "INT_TYPE": pa.int32(),
    "DOUBLE_TYPE": pa.float64(),
}
_NUMBERS: Final = msgspec.json.Decoder(list[float | None])
_TEXTS: Final = msgspec.json.Decoder(list[str | None])

logging.getLogger("pyhive").setLevel(logging.WARNING)  # it would log every statement
logging.getLogger("thrift").setLevel(logging.CRITICAL)  # what it would log is raised as well


class HiveTables:
    """The tables of one database. Raises Failure with one sentence where they cannot be read or written."""

    def __init__(self, url: str, limits: HiveLimits) -> None:
        self._address = parse_address(url)
        self._limits = limits
        exceptions = (exc.Error, TException, OSError, EOFError)
        self._session = HiveSession(self._address, Door(self._connect, exceptions, time.monotonic), limits)
        try:
            self._known = {str(name) for (name,) in self._session.rows("SHOW TABLES")}
            self._require(WORKLOAD_PROFILE)
            for table in (WORKLOAD_PROFILE, CONTAINER_USAGE):
                if table.name in self._known:
                    self._session.check_version(table)
        except Failure:
            self.close()
            raise

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

    def __str__(self) -> str:
        return str(self._address)

    @property
    def dialect(self) -> Dialect:
        """Words of Hive."""
        return HIVE

    def close(self) -> None:
        """End the session; the way to a server that is gone is given up as well."""
        self._session.close()
        self._transport.close()

    def _require(self, table: Table) -> None:
        if table.name not in self._known:
            raise Failure(f"{self}: no table {table.name} in it; egpu-pipeline tables makes it")

    def days(self, table: Table) -> Sequence[str]:
        """Days that have a registered partition."""
        if table.name not in self._known:
            return []
        rows = self._session.rows(f"SHOW PARTITIONS {table.name}")
        return sorted({str(name).split("/")[0].removeprefix("dt=") for (name, *_) in rows})

    def batches(self, query: str, rows_max: int) -> Iterator[pa.RecordBatch]:
        """Rows of a SELECT in Arrow batches; arrays come as JSON text and leave as lists."""
        for columns, rows in self._session.batches(query, rows_max):
            if not rows:
                continue
            values = zip(columns, zip(*rows, strict=True), strict=True)
            arrays = [_array(kind, column) for (_, kind), column in values]
            yield pa.RecordBatch.from_arrays(arrays, [name for name, _ in columns])

    def check_writable(self, table: Table) -> None:
        """Raises Failure before the work where its result could not be kept."""
        self._require(table)
        self._session.check_version(table)

    def record(self, table: Table, partition: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
        """Replace one partition of a table by these rows, by the server itself."""
        self._session.execute(hive_insert(table, partition, [_line(row) for row in rows]))


def _array(kind: str, column: Sequence[Any]) -> Any:
    """One column as Arrow; what is not a plain type is JSON text of an array of numbers or texts."""
    if kind in _ARROW_TYPES:
        return pa.array(column, _ARROW_TYPES[kind])
    first = next((text for text in column if text and text != "[]"), "[]")
    texts = '"' in first
    decode = _TEXTS.decode if texts else _NUMBERS.decode
    kind_of_list = pa.list_(pa.string() if texts else pa.float64())
    return pa.array([None if text is None else decode(text) for text in column], kind_of_list)


def _line(row: Mapping[str, object]) -> str:
    """A row as a JSON object of texts, so that no digit is lost; what is NULL is left out."""
    fields = {
        name: value if isinstance(value, str) else repr(value) for name, value in row.items() if value is not None
    }
    return msgspec.json.encode(fields).decode()
