"""``egpu-runtime``: processes of the runtime stage."""

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from egpu_runtime.contract.process import Failure, command_line, run, with_settings
from egpu_runtime.fleet.replay import Replay, Summary, progress_bar
from egpu_runtime.fleet.trace import COLUMNS, Trace, TraceError
from egpu_runtime.fleet.trace_file import open_trace
from egpu_runtime.settings import RuntimeSettings

app = command_line("Give every pod its slice of a GPU, and report quota and use.")

_TRACE_FORMAT = "\n\n".join(
    f"{column.name}: {column.help}" + (f" (empty = {column.empty})." if column.empty else ".") for column in COLUMNS
)


@app.command(
    help="Replay the load of a fleet, recorded or made up, to a remote-write receiver or to a Prometheus.\n\n"
    "A trace is a CSV (.csv, .csv.gz) or Parquet (.parquet) file in long form: one row is one container on one card "
    "at one time, sorted by time. Its columns, in any order:\n\n" + _TRACE_FORMAT
)
@with_settings(RuntimeSettings)
def replay(
    *,
    settings: RuntimeSettings,
    trace: Annotated[Path | None, typer.Option(help="Trace file to replay.", dir_okay=False)] = None,
    remote_write: Annotated[str | None, typer.Option(metavar="URL", help="Send by Remote Write 1.0.")] = None,
    speed: Annotated[str, typer.Option(metavar="max|N", help="N times real time, or as fast as it is taken.")] = "max",
    summary_file: Annotated[Path | None, typer.Option(help="Write the summary here as JSON.")] = None,
) -> None:
    """Wire a source to a sink."""
    if trace is None:
        raise Failure("give exactly one of --trace and --synthetic")
    if remote_write is None:
        raise Failure("give exactly one of --remote-write and --listen")
    try:
        summary = _send(open_trace(trace), remote_write, settings=settings, speed=_speed(speed))
    except TraceError as error:
        raise Failure(str(error)) from error
    typer.echo(_sentence(summary))
    if summary_file is not None:
        summary_file.write_bytes(msgspec.json.encode(asdict(summary)) + b"\n")


def _send(trace: Trace, url: str, *, settings: RuntimeSettings, speed: float | None) -> Summary:
    sending = Replay(trace, url, settings)
    signal.signal(signal.SIGTERM, lambda *_: sending.stop())
    with progress_bar(trace.first_ms, trace.last_ms) as progressed:
        return sending.run(speed, progressed)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise Failure(f"--speed is max or a number above 0, not {text!r}")
    return speed


def _sentence(summary: Summary) -> str:
    rate = summary.samples_sent / summary.seconds if summary.seconds else 0.0
    early = "" if summary.complete else " (stopped early)"
    return (
        f"{summary.samples_sent} samples sent, {summary.samples_refused} refused, {summary.requests} requests, "
        f"{summary.retries} retries, {summary.seconds:.1f} s, {rate:.0f} samples/s{early}"
    )


def main() -> None:
    """Entry point of ``egpu-runtime``."""
    run(app)


if __name__ == "__main__":
    main()
