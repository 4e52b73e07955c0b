"""``egpu-runtime``: processes of the runtime stage."""

import signal
from dataclasses import asdict
from pathlib import Path

import msgspec
import typer

from egpu_runtime.contract.process import Failure, command_line, run, with_settings
from egpu_runtime.fleet.fleet_spec import FleetSpec, SpecError, read_fleet_spec
from egpu_runtime.fleet.listen import listen
from egpu_runtime.fleet.planted import synthesize
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
def replay(*, settings: RuntimeSettings) -> None:
    """Wire a source to a sink."""
    if bool(settings.trace) == (settings.synthetic is not None):
        raise Failure("give exactly one of --trace and --synthetic")
    if bool(settings.remote_write) == bool(settings.listen):
        raise Failure("give exactly one of --remote-write and --listen")
    if settings.trace and (settings.fleet_spec or settings.planted):
        raise Failure("--fleet-spec and --planted go with --synthetic")
    speed = _speed(settings.speed)
    source = _made_up(settings) if settings.synthetic is not None else _recorded(Path(settings.trace))
    try:
        if settings.listen:
            journal = Path(settings.journal) if settings.journal else None
            listen(source, settings.listen, speed=speed, journal_file=journal)
        else:
            _send(source, settings, speed)
    except TraceError as error:
        raise Failure(str(error)) from error


def _recorded(path: Path) -> Trace:
    try:
        return open_trace(path)
    except TraceError as error:
        raise Failure(str(error)) from error


def _made_up(settings: RuntimeSettings) -> Trace:
    spec_file = settings.fleet_spec
    try:
        spec = read_fleet_spec(Path(spec_file).read_text()) if spec_file else FleetSpec()
    except (OSError, UnicodeDecodeError, SpecError) as error:
        raise Failure(f"{spec_file}: {error}") from error
    fleet = synthesize(settings.synthetic or 0, spec)
    if settings.planted:
        truth = {"planted": fleet.planted, "silent_days": fleet.silent_days}
        Path(settings.planted).write_bytes(msgspec.json.encode(truth))
    return fleet.trace


def _send(trace: Trace, settings: RuntimeSettings, speed: float | None) -> None:
    sending = Replay(trace, settings.remote_write, settings)
    signal.signal(signal.SIGTERM, lambda *_: sending.stop())
    with progress_bar(trace.first_ms, trace.last_ms) as progressed:
        summary = sending.run(speed, progressed)
    typer.echo(_sentence(summary))
    if settings.summary_file:
        Path(settings.summary_file).write_bytes(msgspec.json.encode(asdict(summary)) + b"\n")


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
