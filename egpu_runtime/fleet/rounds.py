"""How samples are shared out over connections: what may be in flight together, so that no series is overtaken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from egpu_runtime.fleet.series import Samples, joined, moments


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be in flight: ``batch_samples_max`` per request, and per round, in ms of trace time,

    ``batch_span_ms_max`` at most where it is a single batch, less than ``window_ms`` where it is shared out.
    """

    batch_samples_max: int
    shards_max: int
    window_ms: int
    round_samples_max: int
    batch_span_ms_max: int


@dataclass(frozen=True, slots=True)
class Round:
    """Samples that may be in flight together: per shard its batches in order; a series is in one shard."""

    first_ms: int
    last_ms: int
    shards: tuple[tuple[Samples, ...], ...]


def rounds(pieces: Iterable[Samples], limits: Limits) -> Iterator[Round]:
    """Share samples in time order out to rounds, sent one after the other.

    A round is a single batch or less than one window over several shards: so shards are
    never further than a window apart, as those of Prometheus under one scrape loop are.
    """
    held: list[Samples] = []
    count, first_ms = 0, 0
    for moment in moments(pieces):
        time_ms = int(moment.timestamp_ms[0])
        fits = count + len(moment) <= limits.batch_samples_max and time_ms - first_ms <= limits.batch_span_ms_max
        near = time_ms - first_ms < limits.window_ms and count < limits.round_samples_max
        if held and not fits and not near:
            yield _round(joined(held), limits)
            held, count = [], 0
        if not held:
            first_ms = time_ms
        held.append(moment)
        count += len(moment)
    if held:
        yield _round(joined(held), limits)


def _round(samples: Samples, limits: Limits) -> Round:
    size = limits.batch_samples_max
    shard_count = min(limits.shards_max, -(-len(samples) // size))
    shard_of = samples.series % shard_count
    shards = []
    for shard in range(shard_count):
        own = samples.chosen(shard_of == shard) if shard_count > 1 else samples
        shards.append(tuple(own.chosen(slice(start, start + size)) for start in range(0, len(own), size)))
    return Round(int(samples.timestamp_ms[0]), int(samples.timestamp_ms[-1]), tuple(shards))
