"""Plays the node's agent: makes a container's folder, changes quotas while it runs, reads what the hook wrote."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from egpu_runtime.agent import region_layout as words
from egpu_runtime.agent.region import (
    CardLimits,
    Member,
    Seen,
    Usage,
    card_bytes,
    limits_bytes,
    place,
    put_seen,
    read_usage,
)

GENERATION_STEP = 2
"""Odd while the file is written, so a change is two steps."""


@dataclass
class Region:
    """The folder of one container."""

    path: Path
    cards: list[CardLimits]
    generation: int = 0

    def change(self, row: int, **values: object) -> None:
        """A live change: `change(0, memory_quota_bytes=..., core_quota=..., priority=...)`."""
        self.cards[row] = replace(self.cards[row], **values)  # type: ignore[arg-type]
        self.generation += GENERATION_STEP
        _rewrite(
            self.path / "limits", limits_bytes(self.cards, generation=self.generation), place("limits", "generation")
        )

    def see(self, pid: int, row: int, seen_bytes: int) -> None:
        """Tells the hook what the driver has for a process."""
        slot = next(slot for slot in self.usage().slots if slot.pid == pid)
        seen = Seen(slot.slot, row, seen_bytes, slot.operation_count, now_ns=time.monotonic_ns())
        with (self.path / "usage").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            put_seen(memory, seen)

    def usage(self) -> Usage:
        """What the hook wrote. Raises RegionError before the first process came."""
        return read_usage((self.path / "usage").read_bytes(), len(self.cards))


@dataclass
class SharedCard:
    """The folder cards/<uuid>, as one host has it for all containers of the card."""

    path: Path
    uuid: str
    memory_bytes: int
    page_in_bytes_per_second: int = 0
    members: dict[int, Member] = field(default_factory=dict)
    generation: int = 0

    def set(self, members: Mapping[int, Member]) -> None:
        """Makes the pages of new members first and names them afterwards."""
        self.members = dict(members)
        self.generation += GENERATION_STEP
        for index in members:
            page = self.path / f"{index}.page"
            if not page.exists():
                page.write_bytes(bytes(words.LAYOUTS["page"].size))
        data = card_bytes(
            self.uuid,
            self.members,
            memory_bytes=self.memory_bytes,
            page_in_bytes_per_second=self.page_in_bytes_per_second,
            generation=self.generation,
        )
        file = self.path / "card"
        if file.exists():
            _rewrite(file, data, place("card", "generation"))
        else:
            file.write_bytes(data)

    def page(self, index: int) -> dict[str, int]:
        """The words of one container's page."""
        data = (self.path / f"{index}.page").read_bytes()
        names = [name for name, where in words.LAYOUTS["page"].fields.items() if where.length == 0]
        return {name: struct.unpack_from(place("page", name)[1], data, place("page", name)[0])[0] for name in names}


def make_region(path: Path, *, cards: Sequence[CardLimits], shared_cards_root: Path | None = None) -> Region:
    """A container's folder with `limits`; the hook makes `usage`. With `shared_cards_root` (of `make_shared_card`) the
    container sees the pages of the cards it shares."""
    path.mkdir(parents=True, exist_ok=True)
    region = Region(path=path, cards=list(cards))
    (path / "limits").write_bytes(limits_bytes(region.cards, generation=region.generation))
    if shared_cards_root is not None and not (path / "cards").exists():
        (path / "cards").symlink_to(shared_cards_root, target_is_directory=True)
    return region


def make_shared_card(
    root: Path, uuid: str, members: Mapping[int, Member], *, memory_bytes: int, page_in_bytes_per_second: int = 0
) -> SharedCard:
    """The folder of a card that several containers share; a container is a member by its CardLimits.card_index."""
    card = SharedCard(root / uuid, uuid, memory_bytes, page_in_bytes_per_second)
    card.path.mkdir(parents=True, exist_ok=True)
    card.set(members)
    return card


def member_of(limits: CardLimits) -> Member:
    """The same entitlement as the neighbours see it."""
    return Member(
        core_quota=limits.core_quota,
        policy=limits.policy,
        priority=limits.priority,
        memory_quota_bytes=limits.memory_quota_bytes,
        resident_bytes_min=limits.resident_bytes_min,
        oversubscription=limits.oversubscription,
    )


def make_neighbours(
    root: Path, limits: Sequence[CardLimits], *, memory_bytes: int, page_in_bytes_per_second: int = 0
) -> list[Region]:
    """One container's folder per row, all on the same card: root/<row>."""
    rows = [replace(one, card_index=index) for index, one in enumerate(limits)]
    members = {index: member_of(one) for index, one in enumerate(rows)}
    make_shared_card(
        root / "cards",
        rows[0].uuid,
        members,
        memory_bytes=memory_bytes,
        page_in_bytes_per_second=page_in_bytes_per_second,
    )
    return [
        make_region(root / str(index), cards=[one], shared_cards_root=root / "cards") for index, one in enumerate(rows)
    ]


def _rewrite(path: Path, data: bytes, generation: tuple[int, str]) -> None:
    """In place, for containers have the file mapped: odd, the rest, even."""
    offset, form = generation
    width = struct.calcsize(form)
    (new,) = struct.unpack_from(form, data, offset)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), len(data)) as memory:
        struct.pack_into(form, memory, offset, new - 1)
        memory[:offset] = data[:offset]
        memory[offset + width :] = data[offset + width :]
        struct.pack_into(form, memory, offset, new)
