"""Shows a trace on /metrics for a real Prometheus, and keeps a journal of every page it has served."""

import asyncio
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final, TextIO

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from egpu_runtime.contract.metrics import METRIC_BY_NAME
from egpu_runtime.contract.process import Failure
from egpu_runtime.fleet.pages import PAGE_SEQUENCE, Page, Pages
from egpu_runtime.fleet.series import SeriesTable
from egpu_runtime.fleet.trace import Trace

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log: Final = logging.getLogger("egpu-runtime")
_PATH: Final = "/metrics"
_PORT_MAX: Final = 65_535


class PageCollector(Collector):
    """The page of the moment, for prometheus-client to write out."""

    def __init__(self, table: SeriesTable) -> None:
        self._table = table
        self.page = Page(0, -1, {})

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a name, and the number of the page."""
        yield GaugeMetricFamily(PAGE_SEQUENCE, "Number of this page, from 1.", value=self.page.sequence)
        names: dict[str, list[int]] = {}
        for number in self.page.values:
            names.setdefault(self._table.names[number], []).append(number)
        for name, numbers in names.items():
            family = GaugeMetricFamily(name, METRIC_BY_NAME[name].help)
            for number in numbers:
                family.add_sample(name, dict(self._table.labels[number]), self.page.values[number])
            yield family


class Listener:
    """An ASGI application: GET /metrics turns the page."""

    def __init__(self, trace: Trace, speed: float | None, journal: TextIO | None) -> None:
        """``journal`` gets one JSON object a page: sequence, trace_ms, served_ms and samples [name, labels, value]."""
        self._table = SeriesTable(trace.containers)
        self._pages = Pages(trace, self._table, speed)
        self._journal = journal
        self._collector = PageCollector(self._table)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        self._first_seconds: float | None = None

    async def __call__(self, scope: Message, _receive: Receive, send: Send) -> None:
        """Answer one request; anything but GET /metrics is 404."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not http")
        known = scope["method"] == "GET" and scope["path"] == _PATH
        body = self.next_page() if known else b""
        headers = [(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())]
        await send({"type": "http.response.start", "status": 200 if known else 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def next_page(self) -> bytes:
        """Turn the page, write it to the journal, then give it in Prometheus' text format."""
        now = time.monotonic()
        self._first_seconds = now if self._first_seconds is None else self._first_seconds
        page = self._pages.turn(now - self._first_seconds)
        self._collector.page = page
        if self._journal is not None:
            self._journal.write(self._journal_line(page) + "\n")
            self._journal.flush()
        return generate_latest(self._registry)

    def _journal_line(self, page: Page) -> str:
        samples = [[self._table.names[n], dict(self._table.labels[n]), value] for n, value in page.values.items()]
        return json.dumps(
            {
                "sequence": page.sequence,
                "trace_ms": page.trace_ms,
                "served_ms": time.time_ns() // 1_000_000,
                "samples": samples,
            }
        )


def listen(trace: Trace, address: str, *, speed: float | None, journal_file: Path | None) -> None:
    """Serve until SIGTERM. Raises Failure when the address cannot be had or the journal not be written."""
    try:
        journal = journal_file.open("a") if journal_file is not None else None
    except OSError as error:
        raise Failure(f"{journal_file}: {error.strerror}") from error
    bound = _bind(address)
    _log.info("listening on http://%s:%d%s", *bound.getsockname()[:2], _PATH)
    # uvicorn ends on SIGTERM, then raises it again for whoever held it before: nobody, so that the exit code is 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(Listener(trace, speed, journal), lifespan="off", log_config=None, access_log=False)
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[bound]))
    finally:
        if journal is not None:
            journal.close()


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise Failure(f"--listen {address!r} is not HOST:PORT")
    try:
        return socket.create_server((host.strip("[]"), int(port)))
    except (OSError, UnicodeError) as error:
        # Python's sentence for a taken port repeats the address; that of the system does not.
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Failure(f"--listen {address}: {why.partition(' (while')[0]}") from error
