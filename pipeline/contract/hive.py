"""How HiveServer2 is addressed and spoken to: the URL, a session over any PEP 249 cursor, failures as one sentence.

No library is imported here: a stage's own door makes the connection (``warehouse_hive``) and hands it in.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from egpu_runtime.contract.process import Failure
from pipeline.contract.ddl import SCHEMA_PROPERTY
from pipeline.contract.tables import WAREHOUSE_SCHEMA_VERSION, Table

Authentication = Literal["NOSASL", "NONE", "LDAP"]

URL_FORM: Final = "hive://[user[:password]@]host[:port]/[database][?auth=NOSASL|NONE|LDAP]"
PORT_DEFAULT: Final = 10_000

_URL: Final = re.compile(
    r"hive://(?:(?P<user>[^:@/?]+)(?::(?P<password>[^@/?]*))?@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/?@]+)"
    r"(?::(?P<port>\d{1,5}))?(?:/(?P<database>\w*))?(?:\?auth=(?P<auth>NOSASL|NONE|LDAP))?"
)
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")

SESSION_SETTINGS: Final = {
    # Column names as the SELECT says them, not table.column.
    "hive.resultset.use.unique.column.names": "false",
    # Reports are ordered and small; a whole history may be asked for.
    "hive.strict.checks.orderby.no.limit": "false",
    "hive.strict.checks.no.partition.filter": "false",
    # Files are replaced without Hive's knowledge, so counts come from them and never from kept statistics.
    "hive.compute.query.using.stats": "false",
}
"""Set when a session is opened, so that a SELECT answers alike whatever the server's own defaults."""

_VECTORIZED: Final = "hive.vectorized.execution.enabled"
_UNNAMED_FILE: Final = "VectorizedParquetRecordReader$1@"

_RUNNING: Final = frozenset({0, 1, 7})
_FINISHED: Final = 2
"""TOperationState of HiveServer2's TCLIService.thrift: initialised, running, pending; finished."""


@dataclass(frozen=True, slots=True)
class HiveAddress:
    """Where a HiveServer2 is and as whom to speak to it; as text it shows no password."""

    host: str
    port: int
    database: str
    user: str
    password: str | None
    authentication: Authentication

    def __str__(self) -> str:
        return f"hive://{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True)
class HiveLimits:
    """``answer_seconds`` = longest wait for one answer of the server; ``query_seconds`` = longest query."""

    answer_seconds: float = 120.0
    query_seconds: float = 3600.0


def is_hive(warehouse: str) -> bool:
    """Whether a ``--warehouse`` is a HiveServer2 and not a folder."""
    return warehouse.startswith("hive://")


def _plain(text: str) -> str:
    """A part of a URL without percent signs (RFC 3986, section 2.1)."""
    return _PERCENT.sub(lambda found: bytes([int(found[1], 16)]), text.encode()).decode(errors="replace")


def parse_address(url: str) -> HiveAddress:
    """The address in a URL. Without a user there is no SASL; a password asks for LDAP, as CUSTOM does on the wire.

    Raises Failure with one sentence for anything else.
    """
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or PORT_DEFAULT) > 65_535:
        shown = re.sub(r"://[^@/]*@", "://...@", url)
        raise Failure(f"{shown!r} is no address of a HiveServer2, which is {URL_FORM}")
    user, password = found["user"], found["password"]
    plain: Authentication = "NONE" if password is None else "LDAP"
    authentication: Authentication = found["auth"] or ("NOSASL" if user is None else plain)  # type: ignore[assignment]
    if (authentication == "LDAP") != (password is not None):
        raise Failure(f"{url.split('@')[-1]}: auth=LDAP and a password go together")
    return HiveAddress(
        host=found["host"].strip("[]"),
        port=int(found["port"] or PORT_DEFAULT),
        database=found["database"] or "default",
        user=_plain(user) if user is not None else "anonymous",
        password=_plain(password) if password is not None else None,
        authentication=authentication,
    )


FETCH_ROWS: Final = 10_000
"""Rows of one fetch, which bounds the memory of a large read."""

Fetched = tuple[tuple[tuple[str, str], ...], list[tuple[Any, ...]]]
"""One fetch: (name, type as HiveServer2 calls it) of each column, and rows."""


class Cursor(Protocol):
    """What a session needs of a cursor (PEP 249 and HiveServer2's asynchronous execution)."""

    @property
    def description(self) -> Any:
        """One sequence a column: name, type, ..."""

    def execute(self, operation: str, parameters: Any = None, **more: Any) -> None:
        """Start a statement."""

    def poll(self, get_progress_update: bool = True) -> Any:
        """State of the statement; waits on the server for a few seconds."""

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        """Next rows, empty at the end."""

    def cancel(self) -> None:
        """Stop the statement."""

    def close(self) -> None:
        """Free the statement."""


class Connection(Protocol):
    """What a session needs of a connection."""

    def cursor(self, *, arraysize: int) -> Cursor:
        """A new cursor that fetches so many rows at once."""

    def close(self) -> None:
        """End the session."""


@dataclass(frozen=True, slots=True)
class Door:
    """What a stage's own door gives to a session: the client library's exceptions and a clock in seconds."""

    connect: Callable[[], Connection]
    exceptions: tuple[type[Exception], ...]
    clock: Callable[[], float]


class HiveSession:
    """One session of a HiveServer2. Every failure of the server or of the way to it is a Failure of one sentence."""

    def __init__(self, address: HiveAddress, door: Door, limits: HiveLimits) -> None:
        self._address = address
        self._door = door
        self._limits = limits
        try:
            self._connection = door.connect()
        except door.exceptions as error:
            raise Failure(f"{address}: {connecting_failed(address, error)}") from error

    def close(self) -> None:
        """End the session; a server that is gone has ended it already."""
        try:
            self._connection.close()
        except self._door.exceptions:
            return

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows, to its end."""
        self._end(self._started(statement, FETCH_ROWS))

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        """All rows of a SELECT that is known to be small."""
        return [row for _, batch in self.batches(select) for row in batch]

    def batches(self, select: str, rows_max: int = FETCH_ROWS) -> Iterator[Fetched]:
        """(columns, rows) for each fetch of a SELECT, at least one. Arrays arrive as JSON text, NULL as None."""
        cursor = self._started(select, rows_max)
        try:
            columns = tuple((str(column[0]), str(column[1])) for column in cursor.description or ())
            rows = cursor.fetchmany(rows_max)
            yield columns, rows
            while rows:
                rows = cursor.fetchmany(rows_max)
                if rows:
                    yield columns, rows
        except self._door.exceptions as error:
            raise self._failure(error) from error
        finally:
            self._end(cursor)

    def check_version(self, table: Table) -> None:
        """Raises Failure where a table was made by a newer program; what has no version is from before versions."""
        *_, (*_, found) = self.rows(f"SHOW TBLPROPERTIES {table.name}('{SCHEMA_PROPERTY}')")
        version = str(found)
        if version.isdigit() and int(version) > WAREHOUSE_SCHEMA_VERSION:
            raise Failure(
                f"{self._address}: table {table.name} has schema version {version}, newer than the "
                f"{WAREHOUSE_SCHEMA_VERSION} known here: use a newer effective-gpu"
            )

    def _started(self, statement: str, rows_max: int) -> Cursor:
        """A cursor whose statement has finished; without ``;``, which is no part of a statement here."""
        cursor = self._connection.cursor(arraysize=rows_max)
        until = self._door.clock() + self._limits.query_seconds
        try:
            cursor.execute(statement.strip().removesuffix(";"), async_=True)
            state = cursor.poll(get_progress_update=False)
            while state.operationState in _RUNNING:
                if self._door.clock() > until:
                    cursor.cancel()
                    raise Failure(f"{self._address}: a query took more than {self._limits.query_seconds:g} s")
                state = cursor.poll(get_progress_update=False)
        except self._door.exceptions as error:
            raise self._failure(error) from error
        if state.operationState != _FINISHED:
            self._end(cursor)
            message = state.errorMessage or "the query was ended by the server"
            raise Failure(f"{self._address}: {self._file_named(statement, message) or sentence(message)}")
        return cursor

    def _file_named(self, statement: str, message: str) -> str | None:
        """The vectorized reader does not say which file is broken; the plain one does, so it is asked as well."""
        if _UNNAMED_FILE not in message:
            return None
        try:
            self.execute(f"SET {_VECTORIZED}=false")
            self._end(self._started(statement, FETCH_ROWS))
            self.execute(f"SET {_VECTORIZED}=true")
        except Failure as failure:
            return str(failure).removeprefix(f"{self._address}: ")
        return None

    def _end(self, cursor: Cursor) -> None:
        try:
            cursor.close()
        except self._door.exceptions:
            return

    def _failure(self, error: Exception) -> Failure:
        text = message_of(error)
        return Failure(f"{self._address}: {lost(text) or sentence(text)}")


def message_of(error: Exception) -> str:
    """The server's message inside an exception, else the exception's own words."""
    status = getattr(error.args[0], "status", None) if error.args else None
    return str(getattr(status, "errorMessage", None) or error)


def lost(message: str) -> str | None:
    """A sentence where the way to the server broke (words of Python's sockets and of Thrift), else None."""
    lowered = message.lower()
    if "timed out" in lowered or "timeout" in lowered.split():
        return "the server does not answer"
    gone = ("read 0 bytes", "broken pipe", "connection reset", "unexpected exception", "transport not open")
    if any(words in lowered for words in gone):
        return "the connection was lost: the server ended or refused to go on"
    return None


def connecting_failed(address: HiveAddress, error: Exception) -> str:
    """Why a session could not be opened."""
    text = message_of(error)
    lowered = text.lower()
    if "validating the login" in lowered or "authentication" in lowered or "bad status" in lowered:
        return f"the server refused the login of {address.user}"
    if "could not connect" in lowered or "refused" in lowered or "unreachable" in lowered:
        return "no server listens there"
    if "resolve" in lowered or "name or service" in lowered or "failure in name" in lowered:
        return f"the host {address.host} is not known"
    if lost(text):
        return f"no session was opened: {lost(text)} (spoken to with auth={address.authentication})"
    return sentence(text)


_WORDY: Final = (
    re.compile(r"SemanticException (?:\[Error \d+\]: )?(?:Line \d+:\d+ )?(?P<what>[^\n]+)"),
    re.compile(r"(?P<what>\S+ is not a Parquet file(?: \([^)]*\))?)"),
    re.compile(r"(?P<what>Input path does not exist: \S+)"),
    re.compile(r"(?P<what>can not read class org\.apache\.parquet[^\n!]*)"),
    re.compile(r"ParseException (?P<what>[^\n]+)"),
)
_CAUSE: Final = re.compile(r"Caused by: (?:[\w.$]+: )*(?P<what>[^\n]+)")
_CLASS_NAMES: Final = re.compile(r"^(?:[\w$]+\.)+[\w$]+(?:Exception|Error): ")


def sentence(message: str) -> str:
    """What went wrong in a message of HiveServer2, often pages of Java stack: one line of at most 300 letters."""
    for form in _WORDY:
        if found := form.search(message):
            return _shortened(found["what"])
    causes = _CAUSE.findall(message)
    text = causes[-1] if causes else message
    return _shortened(text)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    while _CLASS_NAMES.match(line):
        line = _CLASS_NAMES.sub("", line, count=1)
    return line if len(line) <= 300 else f"{line[:297]}..."
