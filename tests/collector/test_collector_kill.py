"""kill -9 at seeded instants: whatever was acknowledged is in the log, once, and so is all the rest in the end.

The collector dies at its n-th sync, just before it (written, not durable) or just after (durable, the sender not yet
told); segments and write-ahead files are kept so short that rotations, checkpoints and the start itself are among them.
"""

import http.client
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from collector_bodies import snappy, up
from collector_process import HEADERS, Collector, records

NOW_MS = int(time.time() * 1000)
SHORT = ("--segment-bytes-max", 150_000, "--wal-bytes-max", 250_000)
SENDERS = 3


def body(number: int) -> bytes:
    """A body of a series of its own, about 9 KB."""
    return snappy(up(number, *((NOW_MS - 1000 + step, number + step / 7) for step in range(500))))


class Sender(threading.Thread):
    """Sends its bodies in order, each until it is acknowledged, as Prometheus does; ``numbers`` shrinks meanwhile."""

    def __init__(self, numbers: list[int], acknowledged: set[int]) -> None:
        super().__init__()
        self.numbers = numbers
        self.acknowledged = acknowledged
        self.port = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            while self.numbers:
                connection.request("POST", "/api/v1/write", body(self.numbers[0]), HEADERS)
                response = connection.getresponse()
                response.read()
                assert response.status == 204, response.status
                self.acknowledged.add(self.numbers.pop(0))
        except (OSError, http.client.HTTPException):
            return  # killed; the next collector gets the same body again
        finally:
            connection.close()


def send_until_killed(collector: Collector, shares: list[list[int]], acknowledged: set[int]) -> None:
    senders = [Sender(share, acknowledged) for share in shares]
    for sender in senders:
        sender.port = collector.port
        sender.start()
    for sender in senders:
        sender.join()


def run_with_kills(folder: Path, shim: str, *, seed: int, kills: int) -> None:
    draw = random.Random(seed)
    total = kills * 25
    shares = [list(range(start, total, SENDERS)) for start in range(SENDERS)]
    acknowledged: set[int] = set()
    died = 0
    while died < kills and any(shares):
        moment = f"SHIM_KILL_{draw.choice(['BEFORE', 'AFTER'])}"
        environment = {"LD_PRELOAD": shim, moment: str(draw.randint(1, 40))}
        try:
            collector = Collector(folder, *SHORT, environment=environment)
        except AssertionError:
            died += 1  # killed while it started
            continue
        send_until_killed(collector, shares, acknowledged)
        if collector.process.poll() is None and not any(shares):
            collector.kill()
        died += collector.process.wait(timeout=20) == -9
        in_log = Counter(record.block for record in records(collector.log))
        assert [number for number in acknowledged if in_log[body(number)] != 1] == []
        assert max(in_log.values(), default=0) <= 1
    assert died == kills, "the load ended before the kills did"
    last = Collector(folder, *SHORT)
    send_until_killed(last, shares, acknowledged)
    assert last.stop() == 0
    in_log = Counter(record.block for record in records(last.log))
    assert in_log == Counter(body(number) for number in range(total))
    assert acknowledged == set(range(total))


def test_three_kills_lose_and_repeat_nothing(tmp_path: Path, disk_shim: str) -> None:
    run_with_kills(tmp_path, disk_shim, seed=3, kills=3)


@pytest.mark.end_to_end
@pytest.mark.parametrize("seed", [11, random.SystemRandom().randrange(1 << 32)])
def test_many_kills_lose_and_repeat_nothing(tmp_path: Path, disk_shim: str, seed: int) -> None:
    run_with_kills(tmp_path, disk_shim, seed=seed, kills=25)


def test_durable_and_not_yet_told_is_acknowledged_later_and_stored_once(tmp_path: Path, disk_shim: str) -> None:
    """Dies right after a sync of the first commits: the sender knows of one record less than the log."""
    for nth in (12, 15):
        folder = tmp_path / str(nth)
        folder.mkdir()
        collector = Collector(folder, environment={"LD_PRELOAD": disk_shim, "SHIM_KILL_AFTER": str(nth)})
        acknowledged: set[int] = set()
        shares = [[0, 1, 2, 3, 4, 5, 6, 7]]
        send_until_killed(collector, shares, acknowledged)
        assert collector.process.wait(timeout=20) == -9
        stored = [record.block for record in records(collector.log)]
        assert len(stored) == len(acknowledged) + 1
        again = Collector(folder)
        send_until_killed(again, shares, acknowledged)
        assert again.stop() == 0
        assert [record.block for record in records(again.log)] == [body(number) for number in range(8)]
