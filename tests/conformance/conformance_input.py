"""One seeded input as remote-write bodies: what Prometheus servers of several clusters send, and how it goes wrong.

Pure. ``scrapes`` decides which samples there are, ``phases`` in which order and in which bodies they travel; rows may
depend on the first alone. Times are ms UTC.
"""

import random
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cramjam
from conformance_exporters import DIALECTS, Labels, Moment
from conformance_pods import HOUR_MS, MINUTE_MS, Cluster, calm_until_ms, cluster

START_MS = 1_767_225_600_000 + 22 * HOUR_MS
"""22:00 UTC: a few hours are of two days."""

STALE = struct.pack("<Q", 0x7FF0_0000_0000_0002)
_ODD_VALUES = (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324)
_ODD_SHARE = 0.006
_BODY_SPAN_MS = 60_000
"""A sender waits no longer for a body to fill up; so no sender is ahead of the others by more than they may be late."""

Series = tuple[tuple[str, str], ...]
"""All labels of a series, sorted by name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as it is sent: labels, time, the eight bytes of its value (a stale marker is a NaN by its bits)."""

    series: Series
    time_ms: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one Prometheus server got of one cluster at one time."""

    sender: str
    time_ms: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How the samples travel: ``seed`` of order and batching, delay by cluster in ms, share of scrapes sent last."""

    seed: int = 0
    behind_ms: Mapping[str, int] = field(default_factory=dict)
    late_share: float = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """One Prometheus: which cluster it scrapes, how often, how far off the round minute, and its replica label."""

    cluster: str
    interval_ms: int
    offset_ms: int
    replica: str = ""

    @property
    def name(self) -> str:
        return f"{self.cluster or 'unnamed'}{self.replica}"


SERVERS = (
    Server("east", 30_000, 0, "a"),
    Server("east", 30_000, 7_011, "b"),
    Server("west", 30_000, 3_137),
    Server("north", 30_000, 0),
    Server("south", 60_000, 59_999),
    Server("", 30_000, 11_000),
)


def scrapes(seed: int, *, hours: float, start_ms: int = START_MS) -> list[Scrape]:
    """All scrapes in order of time. Some fail, then the series are marked stale or only absent; values may be odd."""
    end_ms = start_ms + int(hours * HOUR_MS)
    found = []
    worlds = {name: cluster(name or "unnamed", start_ms=start_ms, end_ms=end_ms, seed=seed) for name in DIALECTS}
    for name, world in worlds.items():
        chance = random.Random(f"{seed}/{name}")
        servers = [server for server in SERVERS if server.cluster == name]
        found += _of_cluster(world, servers, chance)
    return sorted(found, key=lambda scrape: (scrape.time_ms, scrape.sender))


def _times(server: Server, world: Cluster, chance: random.Random) -> Iterator[int]:
    """When a server scrapes: at its offset, a little off it now and then; replicas sometimes at the same time."""
    for at in range(world.start_ms, world.end_ms, server.interval_ms):
        offset = server.offset_ms if chance.random() > 0.05 else chance.choice([0, server.offset_ms + 13])
        yield at + offset


def _of_cluster(world: Cluster, servers: Sequence[Server], chance: random.Random) -> Iterator[Scrape]:
    times = sorted((at, number) for number, server in enumerate(servers) for at in _times(server, world, chance))
    gap_from = world.start_ms + chance.randint(20, 50) * MINUTE_MS
    before: list[set[Series]] = [set() for _ in servers]
    for at, number in times:
        server = servers[number]
        is_down = gap_from <= at < gap_from + 12 * MINUTE_MS or chance.random() < 0.01
        moment = Moment(world, at, chance)
        points = [] if is_down else [point for says in DIALECTS[server.cluster] for point in says(moment)]
        odd_share = _ODD_SHARE if at >= calm_until_ms(world.start_ms, world.end_ms) else 0.0
        samples = {_series(labels, server): _value(value, chance, odd_share) for labels, value in points}
        gone = before[number] - samples.keys() if not is_down or chance.random() < 0.5 else set()
        before[number] = set(samples)
        samples |= dict.fromkeys(sorted(gone), STALE)
        if samples:
            yield Scrape(server.name, at, tuple(Sample(series, at, value) for series, value in samples.items()))


def _series(labels: Labels, server: Server) -> Series:
    external = {"cluster": server.cluster, "prometheus_replica": server.replica}
    target = {"job": labels["__name__"].split("_")[0].lower(), "instance": labels.get("node", "one")}
    every = {**labels, **target, **{name: text for name, text in external.items() if text}}
    return tuple(sorted(every.items()))


def _value(value: float, chance: random.Random, odd_share: float) -> bytes:
    return struct.pack("<d", chance.choice(_ODD_VALUES) if chance.random() < odd_share else value)


def phases(given: Sequence[Scrape], way: Way) -> tuple[tuple[bytes, ...], ...]:
    """Bodies in sending order, in two phases; a pause between them makes certain that the second comes late.

    Senders are interleaved by time; in the first phase scrapes may be some minutes late, a body may come twice, a
    sample in two bodies.
    """
    chance = random.Random(f"way/{way.seed}")
    calm_until = given[0].time_ms + HOUR_MS
    queues: dict[tuple[int, str], list[tuple[int, Sample]]] = {}
    for scrape in given:
        phase, delay_ms = 0, 1_000
        if chance.random() < way.late_share:
            phase = 1
        elif chance.random() < 0.03:
            delay_ms = chance.randint(30_000, 120_000)
        # In the calm hour scrapes come whole, so that the pods on a card keep to equal times.
        part = chance.random() if chance.random() < 0.3 and scrape.time_ms > calm_until else 1.0
        delay_ms += next((ms for name, ms in way.behind_ms.items() if scrape.sender.startswith(name)), 0)
        for sample in scrape.samples:
            of_part = chance.random() <= part
            queue = queues.setdefault((phase if of_part else 0, scrape.sender), [])
            queue.append((scrape.time_ms + (delay_ms if of_part else 1_000), sample))
    return tuple(tuple(_bodies(queues, phase, chance)) for phase in (0, 1))


def _bodies(
    queues: Mapping[tuple[int, str], Sequence[tuple[int, Sample]]], phase: int, chance: random.Random
) -> Iterator[bytes]:
    waiting: list[tuple[int, bytes]] = []
    for (of_phase, _), queue in sorted(queues.items()):
        if of_phase != phase:
            continue
        ordered = sorted(queue, key=lambda item: item[0])
        start = 0
        while start < len(ordered):
            size = chance.choice([1, 200, 500, 500, 800])
            piece = [item for item in ordered[start : start + size] if item[0] < ordered[start][0] + _BODY_SPAN_MS]
            # Some samples travel again, in another company.
            recent = [item for item in ordered[max(0, start - 300) : start] if item[0] > piece[0][0] - _BODY_SPAN_MS]
            again = chance.sample(recent, k=min(20, len(recent))) if chance.random() < 0.1 else []
            body = encode([sample for _, sample in [*piece, *again]], tidy=chance.random() < 0.8)
            sent_ms = piece[-1][0]
            waiting.append((sent_ms, body))
            if chance.random() < 0.1:
                waiting.append((sent_ms + chance.choice([0, 10_000, 30_000]), body))
            start += len(piece)
    return (body for _, body in sorted(waiting, key=lambda item: item[0]))


def encode(samples: Iterable[Sample], *, tidy: bool = True) -> bytes:
    """A snappy-compressed WriteRequest: one TimeSeries a sample as Prometheus sends it; else one a series, its
    samples in reverse and its labels unsorted, which the protocol forbids and senders do."""
    if tidy:
        body = b"".join(_time_series(sample.series, [sample]) for sample in samples)
    else:
        by_series: dict[Series, list[Sample]] = {}
        for sample in samples:
            by_series.setdefault(sample.series, []).append(sample)
        body = b"".join(_time_series(series[::-1], of_it[::-1]) for series, of_it in by_series.items())
    return bytes(cramjam.snappy.compress_raw(body))


def _time_series(series: Series, samples: Sequence[Sample]) -> bytes:
    labels = b"".join(_field(1, _field(1, name.encode()) + _field(2, text.encode())) for name, text in series)
    points = b"".join(_field(2, b"\x09" + sample.value + b"\x10" + _varint(sample.time_ms)) for sample in samples)
    return _field(1, labels + points)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
