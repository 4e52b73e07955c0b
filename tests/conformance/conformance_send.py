"""A sender as Prometheus is one: posts a body until it is acknowledged, and waits as long as the receiver is away."""

import http.client
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.3


def send(address: Callable[[], str], bodies: Iterable[bytes]) -> int:
    """Post the bodies in order, each until it gets 2xx; returns how often one had to be sent again.

    ``address`` is asked anew after each failure, for a receiver may come back on another port. 5xx and a broken
    connection are tried again, everything else fails the test, as does a receiver that stays away.
    """
    repeated = 0
    connection: http.client.HTTPConnection | None = None
    for body in bodies:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                connection = connection or _connect(address())
                if _accepted(connection, body):
                    break
            except (OSError, http.client.HTTPException):
                connection = None
            assert time.monotonic() < deadline, "the receiver stays away"
            repeated += 1
            time.sleep(_PAUSE_SECONDS)
    if connection is not None:
        connection.close()
    return repeated


def _connect(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=40)


def _accepted(connection: http.client.HTTPConnection, body: bytes) -> bool:
    connection.request("POST", "/api/v1/write", body, HEADERS)
    response = connection.getresponse()
    text = response.read().decode(errors="replace")
    assert response.status < 300 or response.status >= 500, f"{response.status}: {text}"
    return response.status < 300
