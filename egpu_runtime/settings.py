"""Settings of the runtime's processes."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from egpu_runtime.contract.configuration import ProcessSettings

Positive = Annotated[int, Meta(ge=1)]
PositiveSeconds = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings(ProcessSettings):
    """Knobs of ``egpu-runtime replay``; the defaults of sending are those of Prometheus' queue_config."""

    trace: str = ""
    """Trace file to replay (.csv, .csv.gz or .parquet, long form). Default none."""

    synthetic: Annotated[int, Meta(ge=0)] | None = None
    """Seed of a made-up fleet to replay; the same seed gives the same samples. Default none."""

    fleet_spec: str = ""
    """File that says what the made-up fleet consists of, TOML. Default none: 43 workloads, 45 cards, 28 days."""

    planted: str = ""
    """File to write the truth about the made-up fleet to, JSON; for tests only. Default none."""

    remote_write: str = ""
    """URL of a receiver to send to by Remote Write 1.0. Default none."""

    listen: str = ""
    """Address (host:port) to show /metrics on, for a Prometheus to scrape. Default none."""

    speed: str = "max"
    """How many times real time the trace is played, or max = as fast as it is taken (listening: one trace time per
    scrape). Default max."""

    journal: str = ""
    """File to append every page served to, one JSON object a line, with --listen. Default none."""

    summary_file: str = ""
    """File to write the summary to at the end, JSON, with --remote-write: samples_sent (acknowledged), samples_refused
    (all those of requests answered with 400, of which the receiver may have stored the valid ones), samples_unanswered
    (tried when the replay was stopped, stored or not), requests, requests_refused, retries, seconds, complete (false =
    stopped early), first_refusal (status and first line of the first 400, or empty). Default none."""

    batch_samples_max: Positive = 2000
    """Most samples in one request. Default 2000, as Prometheus' max_samples_per_send."""

    connections_max: Positive = 4
    """Most connections to the receiver; a fleet whose window fits one request uses one. Default 4."""

    window_seconds: Positive = 300
    """Seconds of trace time within which the connections stay of each other. Default 300, one window of the tables."""

    retry_seconds_min: PositiveSeconds = 0.03
    """Seconds before the first retry, doubled with each one. Default 0.03, as Prometheus' min_backoff."""

    retry_seconds_max: PositiveSeconds = 5.0
    """Longest wait before a retry in seconds, unless Retry-After says more. Default 5, as Prometheus' max_backoff."""

    request_timeout_seconds: PositiveSeconds = 30.0
    """Seconds without an answer after which a request is tried again. Default 30, as Prometheus' remote_timeout."""

    give_up_seconds: PositiveSeconds = 300.0
    """Seconds one request is retried before the replay ends with an error. Default 300; a fleet would never give up."""
