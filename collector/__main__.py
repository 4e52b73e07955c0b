"""``egpu-collector``: remote write in, a durable log out."""

import asyncio
import contextlib
import ctypes
import os
import socket
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn

from collector.doctor import describe
from collector.intake import Log
from collector.log_kafka import KafkaLog
from collector.log_sqlite import SqliteLog
from collector.remote_write import Receiver
from collector.settings import CollectorSettings
from collector.validation import SERIES_BYTES_MIN, BodyChecker, LabelLimits
from egpu_runtime.contract.process import Failure, command_line, run, with_settings

KEEP_ALIVE_SECONDS = 330
"""Seconds an idle connection is kept: longer than the 300 of Prometheus' client, so the client is the one to close."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of malloc.h."""
_KEPT_BYTES_MAX = 64 << 20

app = command_line("Remote write 1.0 to a durable log: a folder of files, or a Kafka topic.")


class _Server(uvicorn.Server):
    """Says when it listens, and returns on SIGTERM instead of raising the signal again."""

    def __init__(self, config: uvicorn.Config, receiver: Receiver, *, port_file: Path | None) -> None:
        super().__init__(config)
        self._receiver = receiver
        self._port_file = port_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, then name the address on stdout and the port in the port file."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        if self._port_file is not None:
            # Renamed into place: who waits for the file never reads half a number.
            fresh = self._port_file.with_name(f"{self._port_file.name}.{os.getpid()}")
            try:
                fresh.write_text(f"{port}\n")
                fresh.replace(self._port_file)
            except OSError as error:
                raise Failure(f"port file {self._port_file}: {error.strerror}") from error
        typer.echo(f"egpu-collector listens on http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT: refuse what is new, finish what is under way."""
        del sig, frame
        self._receiver.is_draining = True
        self.should_exit = True


def _bind(settings: CollectorSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.listen_address, settings.listen_port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.listen_address, settings.listen_port))
    except OSError as error:
        where = f"{settings.listen_address}:{settings.listen_port}"
        raise Failure(f"cannot listen on {where}: {error.strerror}") from error
    return listener


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed, up to 64 MiB: bodies of nearly a megabyte come and go at every request, and taking
    their pages from the system and giving them back is a quarter of all CPU time with Kafka [measured]."""
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES_MAX // 2)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)


def _new_checker(settings: CollectorSettings) -> BodyChecker:
    series_count_max = settings.series_count_max
    if settings.log == "kafka":
        # Cutting a body by partition needs all its series at once.
        series_count_max = max(series_count_max, settings.body_bytes_max // SERIES_BYTES_MIN)
    limits = LabelLimits(settings.label_count_max, settings.label_bytes_max)
    return BodyChecker(limits, series_count_max=series_count_max, body_bytes_max=settings.body_bytes_max)


def _open_log(settings: CollectorSettings, checker: BodyChecker) -> Log:
    return KafkaLog(settings, checker) if settings.log == "kafka" else SqliteLog(settings)


def _name_of_log(settings: CollectorSettings) -> str:
    return f"topic {settings.kafka_topic}" if settings.log == "kafka" else f"log {settings.log_directory}"


@app.command()
@with_settings(CollectorSettings)
def serve(
    *,
    settings: CollectorSettings,
    port_file: Annotated[Path | None, typer.Option(help="File that gets the port once the collector listens.")] = None,
) -> None:
    """Receive remote write until SIGTERM; prints one line with the address when ready."""
    _keep_freed_memory()
    checker = _new_checker(settings)
    with contextlib.closing(_bind(settings)) as listener, contextlib.closing(_open_log(settings, checker)) as log:
        receiver = Receiver(settings, log, checker=checker)
        config = uvicorn.Config(
            receiver,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, int(settings.drain_seconds_max)),
        )
        server = _Server(config, receiver, port_file=port_file)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
        if log.has_ended:
            raise Failure(f"{_name_of_log(settings)}: {log.unavailable}")


@app.command()
@with_settings(CollectorSettings)
def doctor(*, settings: CollectorSettings) -> None:
    """Show the log in one screen: its extent, its readers' lag, how long it lasts, what was refused."""
    for line in describe(settings):
        typer.echo(line)


def main() -> None:
    """Entry point of ``egpu-collector``."""
    run(app)


if __name__ == "__main__":
    main()
