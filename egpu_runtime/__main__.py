"""``egpu-runtime``: processes of the runtime stage."""

import os
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

app = command_line("A fleet without GPUs: its load, recorded or made up, as a real fleet would report it.")

_TRACE_FORMAT = "\n\n".join(
    f"{column.name}: {column.help}" + (f" (empty = {column.empty})." if column.empty else ".") for column in COLUMNS
)


@app.command(
    help="Replay the load of a fleet, recorded or made up, to a remote-write receiver or to a Prometheus.\n\n"
    "A trace is a CSV (.csv, .csv.gz) or Parquet (.parquet) file in long form: one row is one container on one card "
    "at one time, sorted by time. Its columns, in any order:\n\n" + _TRACE_FORMAT + "\n\n"
    "Exit codes: 0 = everything was taken, or the replay was stopped by SIGTERM (the summary says so) and nothing was "
    "refused; 1 = the receiver refused a request (400; the others were sent, the summary is there) or anything else "
    "failed (no summary)."
)
@with_settings(RuntimeSettings)
def replay(*, settings: RuntimeSettings) -> None:
    """Wire a source to a sink."""
    if bool(settings.trace) == (settings.synthetic is not None):
        raise Failure("give exactly one of --trace and --synthetic")
    if bool(settings.remote_write) == bool(settings.listen):
        raise Failure("give exactly one of --remote-write and --listen")
    _check_companions(settings)
    speed = _speed(settings.speed)
    for file in (settings.planted, settings.journal, settings.summary_file):
        _check_can_be_written(file)
    source = _made_up(settings) if settings.synthetic is not None else _recorded(Path(settings.trace))
    try:
        if settings.listen:
            journal = Path(settings.journal) if settings.journal else None
            listen(source, settings.listen, speed=speed, journal_file=journal)
        else:
            _send(source, settings, speed)
    except TraceError as error:
        raise Failure(str(error)) from error


def _check_companions(settings: RuntimeSettings) -> None:
    """A setting that would do nothing is a mistake of the caller's."""
    if settings.trace and (settings.fleet_spec or settings.planted):
        raise Failure("--fleet-spec and --planted go with --synthetic")
    if settings.listen and settings.summary_file:
        raise Failure("--summary-file goes with --remote-write")
    if settings.remote_write and settings.journal:
        raise Failure("--journal goes with --listen")


def _check_can_be_written(file: str) -> None:
    """Before anything is sent: hours of replay should not end with a folder that does not exist."""
    if not file:
        return
    path = Path(file)
    if path.is_dir():
        raise Failure(f"{file}: is a folder, not a file")
    if not path.parent.is_dir():
        raise Failure(f"{file}: its folder does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Failure(f"{file}: may not be written")


def _recorded(path: Path) -> Trace:
    try:
        return open_trace(path)
    except TraceError as error:
        raise Failure(str(error)) from error


def _made_up(settings: RuntimeSettings) -> Trace:
    spec_file = settings.fleet_spec
    try:
        spec = read_fleet_spec(Path(spec_file).read_text()) if spec_file else FleetSpec()
    except OSError as error:
        raise Failure(f"{spec_file}: {error.strerror}") from error
    except (UnicodeDecodeError, SpecError) as error:
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
    if summary.requests_refused:
        raise Failure(
            f"{settings.remote_write} refused {summary.requests_refused} of {summary.requests} requests, "
            "of which it may have stored the valid samples"
        )


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
    refused = "0 refused"
    if summary.requests_refused:
        refused = f"{summary.samples_refused} in {summary.requests_refused} refused requests ({summary.first_refusal})"
    unanswered = f", {summary.samples_unanswered} unanswered" if summary.samples_unanswered else ""
    early = "" if summary.complete else " (stopped early)"
    return (
        f"{summary.samples_sent} samples sent, {refused}{unanswered}, {summary.requests} requests, "
        f"{summary.retries} retries, {summary.seconds:.1f} s, {rate:.0f} samples/s{early}"
    )


def main() -> None:
    """Entry point of ``egpu-runtime``."""
    run(app)


if __name__ == "__main__":
    main()
