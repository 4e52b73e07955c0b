"""The pods and cards of a made-up cluster and what happens to them: moves, rollouts, short lives, changed facts.

Pure: everything follows from the seed. Times are ms UTC.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
CARD_BYTES = {"A100": 40 << 30, "T4": 15 << 30}


@dataclass(frozen=True)
class Card:
    """One card of a node."""

    node: str
    uuid: str
    model: str

    @property
    def memory_bytes(self) -> int:
        return CARD_BYTES[self.model]


@dataclass
class Pod:
    """One pod: where it is from which time on, and how it behaves. ``labels_from`` = changes of its facts."""

    namespace: str
    name: str
    uid: str
    kind: str
    workload: str
    start_ms: int
    end_ms: int
    places: list[tuple[int, Card]]
    containers: tuple[str, ...] = ("main",)
    tenant: str = "team-a"
    priority: str = "0"
    idle: bool = False
    facts_from: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)

    def alive(self, time_ms: int) -> bool:
        return self.start_ms <= time_ms < self.end_ms

    def card(self, time_ms: int) -> Card:
        return [card for since, card in self.places if since <= time_ms or since == self.places[0][0]][-1]

    def facts(self, time_ms: int) -> dict[str, str]:
        """Labels that describe it now: tenant, priority, workload."""
        found = {"tenant": self.tenant, "priority": self.priority, "workload": self.workload}
        for since, changed in self.facts_from:
            if since <= time_ms:
                found.update(changed)
        return found

    def count(self, counter: str, chance: random.Random, *, most: int) -> float:
        """The next value of a counter; now and then it was reset, then it begins from a small number."""
        reset = chance.random() < 0.01
        before = 0.0 if reset else self.counters.get(counter, float(chance.randint(0, 1000)))
        self.counters[counter] = before + chance.randint(0, most)
        return self.counters[counter]


@dataclass
class Cluster:
    """Cards and pods of one cluster over a span of time."""

    name: str
    cards: list[Card]
    pods: list[Pod]
    start_ms: int
    end_ms: int

    def alive(self, time_ms: int) -> Iterator[Pod]:
        return (pod for pod in self.pods if pod.alive(time_ms))

    def ended(self, after_ms: int, until_ms: int) -> Iterator[Pod]:
        """Pods whose end lies in (after, until]."""
        return (pod for pod in self.pods if after_ms < pod.end_ms <= until_ms)


def _cards(name: str) -> list[Card]:
    models = {"n0": "A100", "n1": "T4"}
    return [Card(f"{name}-{node}", f"GPU-{name}-{node}-{i}", models[node]) for node in models for i in range(2)]


def calm_until_ms(start_ms: int, end_ms: int) -> int:
    """The first hour, or the first half of a short input, is calm."""
    return start_ms + min(HOUR_MS, (end_ms - start_ms) // 2)


def cluster(name: str, *, start_ms: int, end_ms: int, seed: int) -> Cluster:
    """A cluster of two nodes with two cards each. In the middle of windows a deployment is rolled out, a pod moves to
    another card and back, facts change and change back; some pods live for less than a window.

    Until ``calm_until_ms`` series begin and end with windows only, so that those hours can be made from series windows.
    """
    chance = random.Random(f"{name}/{seed}")
    a, b, c, d = _cards(name)
    middle = start_ms + (end_ms - start_ms) // 2 // (5 * MINUTE_MS) * 5 * MINUTE_MS + 130_000
    pods = [
        Pod("apps", "web-6f-a", f"{name}-u1", "Deployment", "web", start_ms, middle, [(start_ms, a)]),
        Pod("apps", "web-7d-b", f"{name}-u2", "Deployment", "web", middle + 20_000, end_ms, [(start_ms, a)]),
        Pod("apps", "web-6f-c", f"{name}-u3", "Deployment", "web", start_ms, end_ms, [(start_ms, b)]),
        Pod(
            *("apps", "ocr-1-x", f"{name}-u4", "Deployment", "ocr", start_ms, end_ms),
            places=[(start_ms, b), (middle, c), (middle + 7 * MINUTE_MS, b)],
        ),
        Pod(
            *("train", "night-7-y", f"{name}-u5", "CronJob", "night", start_ms + 15 * MINUTE_MS, end_ms - 600_000),
            places=[(start_ms, c)],
            containers=("main", "side"),
            tenant="team-b",
            priority="1",
        ),
        Pod("apps", "bare", f"{name}-u6", "Pod", "bare", start_ms, end_ms, [(start_ms, a)]),
        Pod("apps", "asleep", f"{name}-u7", "StatefulSet", "asleep", start_ms, end_ms, [(start_ms, d)], idle=True),
    ]
    pods[2].facts_from = [(middle + 60_000, {"priority": "1"})]
    pods[5].facts_from = [(middle, {"tenant": "team-c"}), (middle + 100_000, {"tenant": "team-a"})]
    number = 0
    at = calm_until_ms(start_ms, end_ms) + chance.randint(1, 9) * MINUTE_MS
    while at < end_ms - 5 * MINUTE_MS:
        life = chance.choice([40_000, 4 * MINUTE_MS, 17 * MINUTE_MS])
        number += 1
        pods.append(
            Pod(
                *("jobs", f"short-{number}", f"{name}-s{number}", "Job", f"short-{number}", at, min(at + life, end_ms)),
                places=[(at, chance.choice([a, b, c, d]))],
            )
        )
        at += chance.randint(4, 16) * MINUTE_MS + chance.randint(0, 59_999)
    return Cluster(name, [a, b, c, d], pods, start_ms, end_ms)
