"""The window of body hashes: what is held, what is forgotten, and that it stays small."""

import pytest

from collector.dedup import DuplicateWindow

WINDOW_MS = 1600


def hash_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.mark.parametrize(
    ("age_ms", "is_held"),
    [(0, True), (WINDOW_MS, True), (WINDOW_MS + 1, False), (WINDOW_MS * 2, False), (-5000, True)],
)
def test_held_for_the_window(age_ms: int, is_held: bool) -> None:
    window = DuplicateWindow(WINDOW_MS, hash_count_max=100)
    window.add(hash_of(1), 10_000)
    assert window.holds(hash_of(1), 10_000 + age_ms) is is_held
    assert not window.holds(hash_of(2), 10_000)


def test_no_hash_is_forgotten_early_and_none_is_kept_for_long() -> None:
    window = DuplicateWindow(WINDOW_MS, hash_count_max=10_000)
    for now_ms in range(0, 10 * WINDOW_MS, 10):
        window.add(hash_of(now_ms), now_ms)
        oldest = max(0, now_ms - WINDOW_MS)
        assert window.holds(hash_of(oldest - oldest % 10 + 10 * (oldest % 10 > 0)), now_ms)
        assert window.hash_count <= (WINDOW_MS + WINDOW_MS // DuplicateWindow.SLICES) // 10 + 1


def test_count_is_bounded_and_the_newest_stay() -> None:
    window = DuplicateWindow(WINDOW_MS, hash_count_max=160)
    for number in range(1000):
        window.add(hash_of(number), 5)
        assert window.hash_count <= 160
    assert all(window.holds(hash_of(number), 5) for number in range(1000 - 140, 1000))
    assert not window.holds(hash_of(0), 5)
