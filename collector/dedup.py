"""Which bodies were stored already: senders repeat a body byte for byte until they see a 2xx."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Slice:
    """Hashes of the bodies that were stored between two moments, ms."""

    start_ms: int
    last_ms: int
    hashes: set[bytes] = field(default_factory=set)


class DuplicateWindow:
    """Hashes of the bodies stored within the last ``window_ms``, at most ``hash_count_max`` of them.

    Kept in slices of a sixteenth of the window, so that forgetting is dropping a set: a hash is remembered for at least
    ``window_ms`` and at most a sixteenth longer, and less only when ``hash_count_max`` would be passed.
    """

    SLICES = 16

    def __init__(self, window_ms: int, *, hash_count_max: int) -> None:
        self._window_ms = window_ms
        self._slice_ms = max(1, window_ms // self.SLICES)
        self._slice_hash_count_max = max(1, hash_count_max // self.SLICES)
        self._hash_count_max = hash_count_max
        self._slices: deque[_Slice] = deque()
        self.hash_count = 0

    def add(self, body_hash: bytes, now_ms: int) -> None:
        """Remember a body that was stored at ``now_ms``."""
        if not self._slices or self._is_closed(self._slices[-1], now_ms):
            self._slices.append(_Slice(now_ms, now_ms))
        newest = self._slices[-1]
        self.hash_count += body_hash not in newest.hashes
        newest.hashes.add(body_hash)
        newest.last_ms = max(newest.last_ms, now_ms)
        self._forget(now_ms)

    def holds(self, body_hash: bytes, now_ms: int) -> bool:
        """Whether the body was stored within the window."""
        self._forget(now_ms)
        return any(body_hash in part.hashes for part in self._slices)

    def _is_closed(self, part: _Slice, now_ms: int) -> bool:
        return now_ms - part.start_ms >= self._slice_ms or len(part.hashes) >= self._slice_hash_count_max

    def _forget(self, now_ms: int) -> None:
        while self._slices and (
            self._slices[0].last_ms < now_ms - self._window_ms
            or (self.hash_count > self._hash_count_max and len(self._slices) > 1)
        ):
            self.hash_count -= len(self._slices.popleft().hashes)
