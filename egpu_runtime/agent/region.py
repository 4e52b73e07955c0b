"""The shared files of a container as bytes: what the agent writes for the hook, and what it reads back."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Final, Literal

from egpu_runtime.agent import region_layout as words

ORDER: Final = "<"
"""x86-64 and aarch64 are both little-endian."""


class RegionError(Exception):
    """Bytes that are not the file they should be, or a value that has no place in it."""


@dataclass(frozen=True)
class CardLimits:
    """What a container may use of one card."""

    uuid: str
    memory_quota_bytes: int
    core_quota: float = 1.0
    """Part of the card's time; 1 is no limit."""
    policy: Literal["hard", "soft"] = "hard"
    priority: Literal[0, 1] = 0
    """0 goes before 1."""
    oversubscription: bool = False
    """The memory quota is a virtual size."""
    resident_bytes_min: int = 0
    card_index: int | None = None
    """The container's page among those of the card; None: the card is not shared."""
    context_bytes_estimate: int = 0
    """0: the hook's own."""
    host_quota_bytes: int = 0
    """Of host memory: page-locked, and what can be moved out there; 0: no limit."""


@dataclass(frozen=True)
class Member:
    """One container of a shared card."""

    core_quota: float
    policy: Literal["hard", "soft"] = "hard"
    priority: Literal[0, 1] = 0
    memory_quota_bytes: int = 0
    resident_bytes_min: int = 0
    oversubscription: bool = False


@dataclass(frozen=True)
class CardUsage:
    """All processes of a container, the gone ones too, on one card."""

    charged_bytes: int
    charged_bytes_max: int
    charged_bytes_by_class: Mapping[str, int]
    host_bytes: int
    """Page-locked."""
    resident_bytes: int
    """Of oversubscribed memory on the card; the rest of that class lies on the host."""
    busy_ns: int
    throttled_ns: int
    preempted_ns: int
    swapped_in_bytes: int
    swapped_out_bytes: int
    out_of_memory_count: int
    last_submit_ns: int
    launch_count: int
    unlimited_count: int


@dataclass(frozen=True)
class SlotUsage:
    """One living process; lists are by row of the limits."""

    slot: int
    pid: int
    """In the process's own PID namespace."""
    start_time: int
    pid_namespace: int
    """Inode, as /proc/<pid>/ns/pid has it on the host too."""
    operation_count: int
    charged_bytes: Sequence[int]
    busy_ns: Sequence[int]


@dataclass(frozen=True)
class Usage:
    """What the hook wrote about one container."""

    slots: Sequence[SlotUsage]
    cards: Sequence[CardUsage]
    recovery_count: int
    reaped_count: int
    region_error_count: int
    """Times the hook could not use these files, of all processes."""
    passed_launch_count: int
    """Launches that nobody limited because of that."""


MEMORY_CLASSES: Final = {
    words.MEMORY_DEVICE: "device",
    words.MEMORY_MANAGED: "managed",
    words.MEMORY_POOL: "pool",
    words.MEMORY_VIRTUAL: "virtual",
    words.MEMORY_ARRAY: "array",
    words.MEMORY_GRAPH: "graph",
    words.MEMORY_CONTEXT: "context",
    words.MEMORY_MODULE: "module",
    words.MEMORY_OVERSUBSCRIBED: "oversubscribed",
    words.MEMORY_UNACCOUNTED: "unaccounted",
}

POLICIES: Final = {"hard": words.POLICY_HARD, "soft": words.POLICY_SOFT}
SUMMED: Final = (
    "busy_ns",
    "throttled_ns",
    "preempted_ns",
    "swapped_in_bytes",
    "swapped_out_bytes",
    "out_of_memory_count",
    "launch_count",
    "unlimited_count",
)
"""Counters of a slot that go on in `departed_` words when its process is gone."""


def limits_bytes(cards: Sequence[CardLimits], *, container: str = "", generation: int = 0) -> bytes:
    """The file `limits`. Raises RegionError."""
    if len(cards) > words.CARD_COUNT_MAX:
        raise RegionError(f"{len(cards)} cards; a container has at most {words.CARD_COUNT_MAX}")
    page = bytearray(words.LAYOUTS["limits"].size)
    _put(page, "limits", "magic", words.LIMITS_MAGIC)
    _put(page, "limits", "version", words.REGION_VERSION)
    _put(page, "limits", "card_count", len(cards))
    _put(page, "limits", "generation", generation)
    _put_text(page, "limits", "container", container)
    for row, card in enumerate(cards):
        _put_card(page, _at("limits", "cards", row), card)
    return bytes(page)


def _put_card(page: bytearray, base: int, card: CardLimits) -> None:
    _put_text(page, "card_limits", "uuid", card.uuid, base=base)
    index = words.INDEX_NONE if card.card_index is None else card.card_index
    values = {
        "memory_quota_bytes": card.memory_quota_bytes,
        "resident_bytes_min": card.resident_bytes_min,
        "core_quota": core_parts(card.core_quota),
        "core_policy": POLICIES[card.policy],
        "priority": card.priority,
        "oversubscription": int(card.oversubscription),
        "card_index": index,
        "context_bytes_estimate": card.context_bytes_estimate,
        "host_quota_bytes": card.host_quota_bytes,
    }
    for name, value in values.items():
        _put(page, "card_limits", name, value, base=base)


def card_bytes(
    uuid: str,
    members: Mapping[int, Member],
    *,
    memory_bytes: int = 0,
    page_in_bytes_per_second: int = 0,
    generation: int = 0,
) -> bytes:
    """The file `cards/<uuid>/card`; members by index. Raises RegionError."""
    page = bytearray(words.LAYOUTS["card"].size)
    if any(not 0 <= index < words.MEMBER_COUNT_MAX for index in members):
        raise RegionError(f"indexes go from 0 to {words.MEMBER_COUNT_MAX - 1}: {sorted(members)}")
    _put(page, "card", "magic", words.CARD_MAGIC)
    _put(page, "card", "version", words.REGION_VERSION)
    _put(page, "card", "member_count", max(members, default=-1) + 1)
    _put(page, "card", "generation", generation)
    _put_text(page, "card", "uuid", uuid)
    _put(page, "card", "memory_bytes", memory_bytes)
    _put(page, "card", "page_in_bytes_per_second", page_in_bytes_per_second)
    for index, member in members.items():
        base = _at("card", "members", index)
        values = {
            "present": 1,
            "core_quota": core_parts(member.core_quota),
            "core_policy": POLICIES[member.policy],
            "priority": member.priority,
            "memory_quota_bytes": member.memory_quota_bytes,
            "resident_bytes_min": member.resident_bytes_min,
            "oversubscription": int(member.oversubscription),
        }
        for name, value in values.items():
            _put(page, "member", name, value, base=base)
    return bytes(page)


def core_parts(quota: float) -> int:
    """Parts of 10,000. Raises RegionError."""
    parts = round(quota * words.CORE_QUOTA_WHOLE)
    if not 0 < parts <= words.CORE_QUOTA_WHOLE:
        raise RegionError(f"a core quota lies above 0 and at most at 1: {quota}")
    return parts


def read_usage(data: bytes | bytearray | memoryview, card_count: int) -> Usage:
    """The file `usage`; the words are read one by one while the container goes on. Raises RegionError."""
    if len(data) < words.LAYOUTS["usage"].size:
        raise RegionError(f"usage has {len(data)} bytes")
    if _get(data, "usage_head", "magic") != words.USAGE_MAGIC:
        raise RegionError("usage is not prepared yet, or is something else")
    version = _get(data, "usage_head", "version")
    if version != words.REGION_VERSION:
        raise RegionError(f"usage has version {version}; this agent reads {words.REGION_VERSION}")
    slots = []
    bases = []
    for slot in range(min(_get(data, "usage_head", "slot_count_used"), words.SLOT_COUNT_MAX)):
        base = _at("usage", "slots", slot)
        if _get(data, "slot", "pid", base=base):
            bases.append(base)
            slots.append(_slot(data, slot, base, card_count))
    return Usage(
        slots=slots,
        cards=[_card(data, row, bases) for row in range(card_count)],
        recovery_count=_get(data, "usage_head", "recovery_count"),
        reaped_count=_get(data, "usage_head", "reaped_count"),
        region_error_count=_get(data, "usage_head", "region_error_count")
        + sum(_get(data, "slot", "region_error_count", base=base) for base in bases),
        passed_launch_count=_get(data, "usage_head", "passed_launch_count"),
    )


def _slot(data: bytes | bytearray | memoryview, slot: int, base: int, card_count: int) -> SlotUsage:
    rows = [base + _at("slot", "cards", row) for row in range(card_count)]
    return SlotUsage(
        slot=slot,
        pid=_get(data, "slot", "pid", base=base),
        start_time=_get(data, "slot", "start_time", base=base),
        pid_namespace=_get(data, "slot", "pid_namespace", base=base),
        operation_count=_get(data, "slot", "operation_count", base=base),
        charged_bytes=[sum(_classes(data, row).values()) for row in rows],
        busy_ns=[_get(data, "slot_card", "busy_ns", base=row) for row in rows],
    )


@dataclass(frozen=True)
class Seen:
    """What the driver has for one process, as the agent finds it under the process's number on the host."""

    slot: int
    row: int
    seen_bytes: int
    operation_count: int
    """Of the slot when the agent asked: if it has changed since, the hook takes no notice."""
    now_ns: int
    """CLOCK_MONOTONIC."""


def put_seen(usage: bytearray | mmap, seen: Seen) -> None:
    """Into the mapped file `usage`; the hook follows at its next allocation. The time goes last."""
    base = _at("usage", "slots", seen.slot) + _at("slot", "cards", seen.row)
    _put(usage, "slot_card", "seen_bytes", seen.seen_bytes, base=base)
    _put(usage, "slot_card", "seen_operation_count", seen.operation_count, base=base)
    _put(usage, "slot_card", "seen_ns", seen.now_ns, base=base)


def _card(data: bytes | bytearray | memoryview, row: int, slots: Sequence[int]) -> CardUsage:
    base = _at("usage", "cards", row)
    rows = [slot + _at("slot", "cards", row) for slot in slots]

    def living(name: str) -> list[int]:
        return [_get(data, "slot_card", name, base=one) for one in rows]

    classes = [_classes(data, one) for one in rows]
    submits = [*living("last_submit_ns"), _get(data, "card_usage", "departed_last_submit_ns", base=base)]
    sums = {name: sum(living(name)) + _get(data, "card_usage", f"departed_{name}", base=base) for name in SUMMED}
    return CardUsage(
        charged_bytes=_get(data, "card_usage", "charged_bytes", base=base),
        charged_bytes_max=_get(data, "card_usage", "charged_bytes_max", base=base),
        charged_bytes_by_class={name: sum(one[name] for one in classes) for name in MEMORY_CLASSES.values()},
        host_bytes=sum(living("host_bytes")),
        resident_bytes=sum(living("resident_bytes")),
        last_submit_ns=max(submits),
        **sums,
    )


def _classes(data: bytes | bytearray | memoryview, base: int) -> dict[str, int]:
    offset = base + words.LAYOUTS["slot_card"].fields["charged_bytes"].offset
    values = struct.unpack_from(f"{ORDER}{words.MEMORY_CLASS_COUNT}Q", data, offset)
    return {name: values[number] for number, name in MEMORY_CLASSES.items()}


def place(layout: str, name: str) -> tuple[int, str]:
    """Offset and struct format of a word, for those who change one alone."""
    where = words.LAYOUTS[layout].fields[name]
    return where.offset, ORDER + where.type


def _at(layout: str, name: str, index: int) -> int:
    where = words.LAYOUTS[layout].fields[name]
    return where.offset + index * where.size


def _get(data: bytes | bytearray | memoryview, layout: str, name: str, *, base: int = 0) -> int:
    offset, form = place(layout, name)
    value: int = struct.unpack_from(form, data, base + offset)[0]
    return value


def _put(page: bytearray | mmap, layout: str, name: str, value: int, *, base: int = 0) -> None:
    offset, form = place(layout, name)
    try:
        struct.pack_into(form, page, base + offset, value)
    except struct.error as error:
        raise RegionError(f"{layout}.{name} cannot hold {value}") from error


def _put_text(page: bytearray, layout: str, name: str, text: str, *, base: int = 0) -> None:
    where = words.LAYOUTS[layout].fields[name]
    data = text.encode()
    if len(data) >= where.length:
        raise RegionError(f"{layout}.{name} has room for {where.length - 1} bytes: {text}")
    page[base + where.offset : base + where.offset + len(data)] = data
