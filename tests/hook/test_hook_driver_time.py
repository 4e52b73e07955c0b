"""Time on the simulated driver: kernels, streams, events, turns and the virtual clock.

One door: a script of driver calls (tests/hook/clients/time_script.c) and the lines it must print, in microseconds."""

import ctypes
import re
import time

import building
import pytest
import simulation
from simulation import Simulation

SCRIPT = "time_script"
EXACT = {"EGPU_SIM_CALL_NS": "0"}
"""Calls cost nothing: what remains is the time of the card."""
MODELS = ("fifo", "timeslice")
QUANTUM_US = 2000


def script() -> str:
    return str(building.client(SCRIPT, "-lcuda"))


def check(given: str, expected: str, model: str = "fifo") -> None:
    for cuda in building.CUDA_VERSIONS:
        with Simulation(env=EXACT, cuda=cuda, model=model) as sim:
            assert sim.run([script(), *given.split()]).split("\n")[:-1] == [
                line for line in expected.split("; ") if line
            ]
            assert sim.stalls == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("open:0 launch:0:100 now sync:0 now", "now 0; now 100"),
        ("open:0 launch:1:100:5 sync:1 now", "now 500"),
        ("open:0 launch:1:100:1:ex launch:1:100:1:cooperative sync:1 now", "now 200"),
        # An event's time is when its stream had done what came before, or when it was recorded if that was nothing.
        ("open:0 record:1:1 launch:1:70 record:2:1 syncevent:2 elapsed:1:2 now", "elapsed 70; now 70"),
        ("open:0 record:1:1 sleep:30 record:2:1 elapsed:1:2", "elapsed 30"),
        ("open:0 launch:1:50 record:1:1 launch:1:20:3 record:2:1 sync:1 elapsed:1:2 elapsed:2:1",
         "elapsed 60; elapsed -60"),
        ("open:0 record:1:1 launch:1:70 record:2:1 elapsed:1:2 queryevent:2 sleep:70 queryevent:2",
         "error elapsed:1:2 600; queryevent 600; queryevent 0"),
        ("open:0 launch:1:70 query:1 sleep:69 query:1 sleep:1 query:1", "query 600; query 600; query 0"),
        # Two streams share one card; the legacy stream waits for none of them, as they do not block.
        ("open:0 launch:1:100 launch:2:100 sync:2 now sync:1 now", "now 200; now 200"),
        ("open:0 launch:1:100 record:1:1 waitevent:2:1 launch:2:30 record:2:2 sync:2 now elapsed:1:2",
         "now 130; elapsed 30"),
        ("open:0 launch:1:100 launch:2:50 synccontext now", "now 150"),
        # Unknown kernels take 10 us.
        ("open:0 kernel:1:no_such_kernel sync:1 now", "now 10"),
    ],
)  # fmt: skip
def test_the_card_takes_the_declared_time(given: str, expected: str, model: str) -> None:
    check(given, expected, model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("open:0 launch:1:100 host:1:20 launch:1:50 sync:1 now", "host at 120; now 170"),
        ("open:0 host:1:20 launch:2:10 sync:2 now sync:1", "now 10; host at 20"),
        ("open:0 launch:1:100 callback:1:5 sync:1 now", "callback 0; host at 105; now 105"),
        # An event after a host function has its time; another stream that waits for it starts then.
        ("open:0 record:3:1 host:1:40 record:1:1 waitevent:2:1 launch:2:10 record:2:2 sync:2 elapsed:3:1 elapsed:3:2",
         "host at 40; elapsed 40; elapsed 50"),
    ],
)  # fmt: skip
def test_host_functions_run_in_stream_order(given: str, expected: str, model: str) -> None:
    check(given, expected, model)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("open:0 capture:1:0 launch:1:100 launch:1:50 capturing:1 endcapture:1:1 capturing:1 nodes:1 now",
         "capturing 1; capturing 0; nodes 2; now 0"),
        ("open:0 capture:1:0 launch:1:100 launch:1:50 endcapture:1:1 instantiate:1 graph:1:1 graph:1:1 sync:1 now",
         "now 300"),
        # A forked stream is captured too, and has to come back.
        ("open:0 capture:1:0 launch:1:10 record:1:1 waitevent:2:1 launch:2:30 record:2:2 waitevent:1:2 endcapture:1:1 "
         "nodes:1 instantiate:1 graph:1:3 sync:3 now", "nodes 2; now 40"),
        ("open:0 capture:1:0 record:1:1 waitevent:2:1 launch:2:30 endcapture:1:1", "error endcapture:1:1 904"),
        ("open:0 capture:1:0 launch:1:5 host:1:7 launch:1:5 endcapture:1:1 instantiate:1 graph:1:1 sync:1 now",
         "host at 12; now 17"),
        # What a capture cannot hold spoils it.
        ("open:0 capture:1:0 sync:1 launch:1:1 endcapture:1:1 launch:1:9 sync:1 now",
         "error sync:1 900; error launch:1:1 901; error endcapture:1:1 901; now 9"),
        ("open:0 capture:1:0 query:1 endcapture:1:1", "query 900; error endcapture:1:1 901"),
        ("open:0 capture:1:0 synccontext endcapture:1:1", "error synccontext 900; error endcapture:1:1 901"),
        ("open:0 launch:1:1 record:1:1 capture:2:0 waitevent:2:1 endcapture:2:1",
         "error waitevent:2:1 905; error endcapture:2:1 901"),
        ("open:0 capture:1:0 record:1:1 endcapture:1:1 queryevent:1 syncevent:1",
         "queryevent 907; error syncevent:1 907"),
        ("open:0 endcapture:1:1", "error endcapture:1:1 401"),
        ("open:0 capture:0:0", "error capture:0:0 900"),
        ("open:0 capture:1:0 capture:1:0 endcapture:1:1", "error capture:1:0 401"),
    ],
)  # fmt: skip
def test_capture(given: str, expected: str) -> None:
    check(given, expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sync:0", "error sync:0 3"),
        ("init sync:0 synccontext", "error sync:0 201; error synccontext 201"),
        ("init record:1:0", "error record:1:0 201; error record:1:0 400"),
        # CUDA does not work in the child of a process that has begun to use it.
        ("open:0 fork now", "child init 3; now 0"),
        ("fork now", "child init 0; now 0"),
    ],
)
def test_before_there_is_a_context(given: str, expected: str) -> None:
    check(given, expected)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("launch:2", ["error launch:1:10:3 719", "now 20"]),
        ("lost:2", ["error launch:1:10:3 999", "error launch:1:10:3 999", "error sync:1 999", "now 0"]),
    ],
)
def test_faults_on_demand(fault: str, expected: list[str]) -> None:
    with Simulation(env={**EXACT, "EGPU_SIM_FAULT": fault}) as sim:
        assert sim.run([script(), "open:0", "launch:1:10:3", "sync:1", "now"]).split("\n")[:-1] == expected


def test_threads_take_part_one_after_the_other() -> None:
    check("open:0 thread:launch,1,100/sync,1/now now launch:2:10 sync:2 now", "now 100; now 100; now 110")


def test_the_work_of_threads_that_ended_goes_on() -> None:
    check("open:0 launch:0:5 churn:200:10 synccontext now launch:0:1 sync:0 now", "now 2005; now 2006")


def shares(model: str, *scripts: str) -> tuple[list[str], list[int]]:
    """The lines every client prints, and the card time each got in us."""
    with Simulation(model=model, env=EXACT, start=len(scripts)) as sim:
        started = [sim.start([script(), "open:0", *words.split()], rank=rank) for rank, words in enumerate(scripts)]
        outputs = sim.wait(*started)
        assert sim.stalls == 0
        return outputs, [sim.card().rank(rank).busy_ns // 1000 for rank in range(len(scripts))]


def test_fifo_serves_in_order_of_submission() -> None:
    outputs, busy = shares("fifo", "launch:1:1000:3 sync:1 now", "sleep:1 launch:1:10 sync:1 now")
    assert outputs == ["now 3000\n", "now 3010\n"]
    assert busy == [3000, 10]


def test_timeslice_takes_turns() -> None:
    outputs, busy = shares(
        "timeslice", "launch:1:5000 sync:1 now", "launch:1:5000 sync:1 now", "launch:1:100 sync:1 now"
    )
    # Turns of 2 ms: 0 and 1 have had one each when 2 gets its 100 us; 0 ends in its third turn.
    assert outputs == ["now 9100\n", "now 10100\n", "now 4100\n"]
    assert busy == [5000, 5000, 100]


def test_timeslice_shares_by_time_and_fifo_by_kernels() -> None:
    for model, low, high in (("timeslice", 0.49, 0.51), ("fifo", 0.9, 0.96)):
        with Simulation(model=model, env=EXACT, start=2) as sim:
            clients = [
                sim.start([script(), "open:0", f"flood:1:{us}:2000", "kill"], rank=rank)
                for rank, us in enumerate((1000, 100))
            ]
            for client in clients:
                client.communicate(timeout=simulation.WAIT_SECONDS_MAX)
            sim.run([script(), "open:0"])  # buries the two
            busy = [sim.card().rank(rank).busy_ns for rank in (0, 1)]
        assert low < busy[0] / sum(busy) < high


@pytest.mark.parametrize("model", MODELS)
def test_equal_runs_are_equal(model: str) -> None:
    def run(seed: int) -> tuple[int, int]:
        env = {"EGPU_SIM_JITTER": "200"}
        with Simulation(model=model, start=3, seed=seed, env=env) as sim:
            words = ("flood:1:30:200 sync:1", "launch:1:300:100 host:1:50 launch:1:20 sync:1", "flood:2:900:200 sync:2")
            sim.wait(*[sim.start([script(), "open:0", *w.split()], rank=rank) for rank, w in enumerate(words)])
            return sim.trace

    first = run(1)
    assert first[0] > 1000
    assert run(1) == first
    assert run(2) != first


def test_a_killed_process_stops_nobody() -> None:
    """It dies while the others wait for it to hand the clock on, and with work on the card."""
    with Simulation(env=EXACT, start=3) as sim:
        killed = sim.start([script(), "open:0", "launch:1:1000:50", "sleep:3000", "kill"], rank=0)
        others = [sim.start([script(), "open:0", "flood:1:100:200", "sync:1", "now"], rank=rank) for rank in (1, 2)]
        began = time.monotonic()
        sim.wait(*others)
        assert time.monotonic() - began < 5
        killed.communicate()
        card = sim.card()
        assert not card.rank(0).alive
        assert card.rank(0).busy_ns < 50_000_000
        assert card.memory_used_bytes == 0


def test_a_sleeper_outside_the_driver_loses_its_turn_only() -> None:
    with Simulation(env=EXACT, start=2) as sim:
        sleeper = sim.start([script(), "open:0", "launch:1:10", "pause:700", "launch:1:10", "sync:1"], rank=0)
        other = sim.start([script(), "open:0", "launch:1:10", "sync:1", "now"], rank=1)
        sim.wait(other, seconds=5)
        sim.wait(sleeper)
        assert sim.stalls == 1


def test_four_contended_seconds_take_no_more_than_fifteen() -> None:
    with Simulation(model="timeslice", start=4) as sim:
        began = time.monotonic()
        words = [script(), "open:0", "flood:1:10:4000", "sync:1"]
        sim.wait(*[sim.start(words, rank=rank) for rank in range(4)])
        assert sim.now_ns > 4_000_000_000
        assert time.monotonic() - began < 15
        assert sum(sim.card().rank(rank).busy_ns for rank in range(4)) == sim.card().busy_ns


@pytest.mark.parametrize("model", MODELS)
def test_the_wall_clock_gives_the_same_answers_roughly(model: str) -> None:
    words = "open:0 record:1:1 launch:1:30000 record:2:1 syncevent:2 elapsed:1:2 launch:1:20000 sync:1 now"
    with Simulation(clock="wall", model=model) as sim:
        lines = sim.run([script(), *words.split()]).split()
    assert float(lines[1]) == pytest.approx(30_000, abs=1_000)
    assert 50_000 <= float(lines[3]) < 500_000


def test_python_reads_the_state_as_c_writes_it() -> None:
    program = building.client("state_layout")
    with Simulation() as sim:
        told = dict(line.split() for line in sim.run([program]).splitlines())
    for name, value in told.items():
        kind = getattr(simulation, name, None)
        known = (
            ctypes.sizeof(kind)
            if kind is not None
            else next(
                getattr(of, name).offset
                for of in (simulation._State, simulation._Engine, simulation._Process, simulation._Share)
                if hasattr(of, name)
            )
        )
        if name == "busy_ns":
            known = simulation._Engine.busy_ns.offset
        assert known == int(value), name


@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_graphs_built_node_by_node(cuda: str) -> None:
    with Simulation(env=EXACT, cuda=cuda) as sim:
        assert sim.run([building.client("graph_explicit", "-lcuda")]) == ""


def test_every_word_of_the_environment_is_explained() -> None:
    code = "".join(file.read_text() for file in sorted(building.DRIVER.glob("*.c")))
    asked = set(re.findall(r'(?:getenv|sim_environment|environment_is)\("(EGPU_SIM_\w+)"', code))
    assert asked == set(re.findall(r"`(EGPU_SIM_\w+)`", (building.DRIVER / "README.md").read_text()))
