"""The cards held against a second, slow description of them: random clients, every end and every return of a wait."""

import random
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path

import building
import pytest
from simulation import Simulation

QUANTUM_NS = 2_000_000
CLIENTS = 4
OPERATIONS = 60
SEEDS = range(6)


@dataclass
class Operation:
    submitted_ns: int
    duration_ns: int
    left_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.left_ns = self.duration_ns


Ends = dict[int, list[int]]
Submissions = list[tuple[int, int, int]]
"""Time, rank, duration, in the order of submission."""


def fifo(submissions: Submissions) -> Ends:
    """One after the other."""
    ends: Ends = defaultdict(list)
    free = 0
    for submitted, rank, duration in submissions:
        free = max(free, submitted) + duration
        ends[rank].append(free)
    return ends


def timeslice(submissions: Submissions) -> Ends:
    """A queue of processes; the first runs until its work, its slice or the next arrival ends."""
    ends: Ends = defaultdict(list)
    arrivals = deque(submissions)
    queue: deque[int] = deque()
    work: dict[int, deque[Operation]] = defaultdict(deque)
    now, slice_left = 0, QUANTUM_NS
    while arrivals or queue:
        if not queue:
            now, slice_left = max(now, arrivals[0][0]), QUANTUM_NS
        while arrivals and arrivals[0][0] <= now:
            submitted, rank, duration = arrivals.popleft()
            work[rank].append(Operation(submitted, duration))
            if rank not in queue:
                queue.append(rank)
        if slice_left == 0:
            queue.rotate(-1)
            slice_left = QUANTUM_NS
        rank = queue[0]
        operation = work[rank][0]
        step = min(operation.left_ns, slice_left)
        if arrivals:
            step = min(step, arrivals[0][0] - now)
        now, slice_left, operation.left_ns = now + step, slice_left - step, operation.left_ns - step
        if operation.left_ns == 0:
            ends[rank].append(now)
            work[rank].popleft()
            if not work[rank]:
                queue.popleft()
                slice_left = QUANTUM_NS
    return ends


def random_script(rng: random.Random) -> list[str]:
    words = ["open:0"]
    for _ in range(OPERATIONS):
        kind = rng.random()
        if kind < 0.6:
            words.append(f"launch:1:{rng.choice([1, 7, 40, 333, 1999, 2000, 5001])}:{rng.randint(1, 4)}")
        elif kind < 0.8:
            words.append(f"sleep:{rng.choice([1, 13, 500, 2000, 9000])}")
        else:
            words += ["sync:1", "now"]
    return [*words, "sync:1", "now"]


def read(trace: Path) -> tuple[Submissions, Ends]:
    submissions: Submissions = []
    ends: Ends = defaultdict(list)
    for line in trace.read_text().splitlines():
        time, what, *rest = line.split()
        values = {key: int(value) for key, value in (word.split("=") for word in rest)}
        if what == "s":
            submissions.append((int(time), values["rank"], values["amount"]))
        else:
            ends[values["rank"]].append(values["amount"])
    return submissions, ends


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("seed", SEEDS)
def test_cards_do_as_described(model: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    trace = tmp_path / "trace"
    env = {"EGPU_SIM_CALL_NS": str(rng.choice([0, 100])), "EGPU_SIM_TRACE": str(trace)}
    program = building.client("time_script", "-lcuda")
    with Simulation(model=model, env=env, start=CLIENTS) as sim:
        scripts = [random_script(rng) for _ in range(CLIENTS)]
        clients = [sim.start([program, *words], rank=rank) for rank, words in enumerate(scripts)]
        sim.wait(*clients)
    submissions, ends = read(trace)
    assert len(submissions) > CLIENTS * OPERATIONS / 2
    assert ends == {"fifo": fifo, "timeslice": timeslice}[model](submissions)


def tangled_script(rng: random.Random) -> list[str]:
    """Streams that wait for each other and for host functions; a sync stands between the words checked below."""
    words = ["open:0", "record:1:1"]
    for _ in range(OPERATIONS):
        stream, other = rng.sample((0, 1, 2, 3), 2)
        kind = rng.random()
        if kind < 0.4:
            words.append(f"launch:{stream}:{rng.choice([3, 50, 700, 2500])}:{rng.randint(1, 3)}")
        elif kind < 0.5:
            words.append(f"host:{stream}:{rng.choice([0, 20, 900])}")
        elif kind < 0.7:
            words += [f"record:{10 + other}:{other}", f"waitevent:{stream}:{10 + other}"]
        elif kind < 0.8:
            words.append(f"sleep:{rng.choice([1, 600, 4000])}")
        else:
            words += [f"record:2:{stream}", "now", f"sync:{stream}", "now", "elapsed:1:2"]
    return [*words, "synccontext"]


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("seed", SEEDS)
def test_waits_return_when_the_work_ends(model: str, seed: int) -> None:
    rng = random.Random(seed)
    program = building.client("time_script", "-lcuda")
    with Simulation(model=model, env={"EGPU_SIM_CALL_NS": "0"}, start=3) as sim:
        clients = [sim.start([program, *tangled_script(rng)], rank=rank) for rank in range(3)]
        outputs = sim.wait(*clients)
        assert sim.stalls == 0
    checked = 0
    for output in outputs:
        lines = [line.split() for line in output.splitlines() if not line.startswith("host")]
        assert not [line for line in lines if line[0] == "error"]
        for before, after, ended in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
            assert int(after[1]) == max(int(before[1]), int(ended[1]))
            checked += 1
    assert checked > OPERATIONS / 4


Node = tuple[str, int, list[int]]
"""Kind, amount (us of a kernel, bytes of a copy), and the numbers of the nodes it comes after."""
COPY_BYTES_PER_SECOND = 20 << 30


def random_graph(rng: random.Random) -> list[Node]:
    nodes: list[Node] = []
    for number in range(rng.randint(1, OPERATIONS)):
        kind = rng.choice(["kernel", "kernel", "copy", "empty"])
        amount = {"kernel": rng.choice([0, 3, 50, 700, 2500]), "copy": rng.randint(1, 1 << 22), "empty": 0}[kind]
        nodes.append((kind, amount, rng.sample(range(number), min(number, rng.choice([0, 1, 1, 1, 2, 3, 5])))))
    return nodes


def duration_ns(node: Node) -> int:
    kind, amount, _ = node
    return {"kernel": amount * 1000, "copy": int(amount * 1e9 / COPY_BYTES_PER_SECOND), "empty": 0}[kind]


def graph_ns(nodes: list[Node]) -> int:
    """When the last one ends. An engine that is free takes the first of those that wait for nothing more."""
    ends: dict[int, int] = {}
    busy: dict[str, int] = {}
    now = 0
    while True:
        waiting = [number for number in range(len(nodes)) if number not in ends]
        ready = [n for n in waiting if all(before in ends and ends[before] <= now for before in nodes[n][2])]
        free = [n for n in ready if nodes[n][0] == "empty" or busy.get(nodes[n][0], 0) <= now]
        if free:
            ends[free[0]] = busy[nodes[free[0]][0]] = now + duration_ns(nodes[free[0]])
        elif waiting:
            now = min(end for end in ends.values() if end > now)
        else:
            return max(ends.values())


def check_graph(model: str, nodes: list[Node]) -> None:
    program = building.client("graph_branches", "-lcuda", f"-I{building.DRIVER}")
    words = [f"{kind}:{amount}:{','.join(map(str, after))}" for kind, amount, after in nodes]
    with Simulation(model=model, env={"EGPU_SIM_CALL_NS": "0"}) as sim:
        output = sim.run([program, *words], rank=0)
        share = sim.card().rank(0)
    assert output == f"took_ns {2 * graph_ns(nodes)}\n"
    for kind, spent in (("kernel", share.busy_ns), ("copy", share.copy_ns)):
        assert spent == 2 * sum(duration_ns(node) for node in nodes if node[0] == kind)


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
def test_branches_of_a_graph_overlap(model: str) -> None:
    """A copy beside a kernel that is longer; what comes after both waits for the longer."""
    copy_bytes = COPY_BYTES_PER_SECOND // 1_000_000
    nodes: list[Node] = [("copy", 300 * copy_bytes, []), ("kernel", 500, []), ("kernel", 20, [0, 1])]
    assert graph_ns(nodes) == 520_000
    check_graph(model, nodes)


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("seed", range(10))
def test_graphs_end_when_their_longest_path_does(model: str, seed: int) -> None:
    check_graph(model, random_graph(random.Random(seed)))
