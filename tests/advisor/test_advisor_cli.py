"""The advisor as its users meet it: real tables in, a plan, words and exit codes out."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from advisor_tables import MONDAY_MS, Made, daily, profile_rows, usage_rows, write, write_fleet

from advisor.__main__ import app
from advisor.history import History, Selection
from advisor.warehouse_duckdb import FolderTables
from egpu_runtime.contract.process import run
from egpu_runtime.contract.units import GIB, HOUR_MS
from pipeline.contract.tables import (
    CONTAINER_USAGE,
    MANIFEST_FILE,
    WAREHOUSE_SCHEMA_VERSION,
    WORKLOAD_PROFILE,
    Table,
)

DAYS = 28
LIGHT = daily(DAYS, low=0.1, high=0.3, hours=range(8, 20))


def fleet() -> list[Made]:
    return [
        Made("day", daily(DAYS, low=8, high=50, hours=range(8, 20)), LIGHT),
        Made("night", daily(DAYS, low=8, high=50, hours=range(21, 24)), LIGHT),
        Made("off", daily(DAYS, low=8, high=50, hours=range(8, 20)), LIGHT, facts={"advice": "off"}),
        Made("vllm", np.full(DAYS * 24, 76.0), LIGHT, facts={"namespace": "llm"}),
    ]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fleet(tmp_path_factory.mktemp("warehouse"), fleet(), usage=True)


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(app, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(str(ended.value.code)), out, err

    return call


def test_scan_prints_a_plan_as_json(cli: Cli, tables: Path) -> None:
    code, out, _ = cli("scan", "--warehouse", tables, "--format", "json")
    plan = json.loads(out)
    assert code == 0
    assert {r["workload"]["name"]: r["after"] for r in plan["resizes"]} == {
        "day": {"memory_mib": 51_712, "core_percent": 35},
        "night": {"memory_mib": 51_712, "core_percent": 35},
    }
    assert [[member["name"] for member in group["members"]] for group in plan["groups"]] == [["day", "night"]]
    assert {r["workload"]["name"]: r["reason"] for r in plan["refusals"]} == {
        "off": "opted out of advice",
        "vllm": "constant at 95% of quota: pre-allocating framework, its memory use tells nothing",
    }
    assert plan["cards"] == [{"cluster": "c1", "gpu_model": "A100", "before": 4, "after": 3, "bound": 3}]
    assert plan["slices_backtest"]["resolution_seconds"] == 300
    assert len(plan["origins"]) == 8


def test_scan_gates_a_pipeline(cli: Cli, tables: Path) -> None:
    findings = 3
    for limit, code in ((findings, 2), (findings + 1, 0)):
        assert cli("scan", "--warehouse", tables, "--origin-count", 0, "--fail-on", limit)[0] == code


@pytest.mark.parametrize(
    ("arguments", "names", "cards"),
    [
        (["--namespace", "llm"], {"vllm"}, (4, 4)),
        (["-n", "ns", "-n", "llm"], {"day", "night", "off", "vllm"}, (4, 3)),
        (["--workload", "^(day|night)$"], {"day", "night"}, (4, 3)),
        (["--workload", "^day$"], {"day"}, (4, 4)),
    ],
)
def test_selection(cli: Cli, tables: Path, arguments: list[str], names: set[str], cards: tuple[int, int]) -> None:
    """Cards of workloads that are not selected stay where they are, in both totals."""
    _, out, _ = cli("scan", "--warehouse", tables, "--origin-count", 0, "--format", "json", *arguments)
    plan = json.loads(out)
    assert {each["workload"]["name"] for each in plan["resizes"] + plan["refusals"]} == names
    assert (plan["cards"][0]["before"], plan["cards"][0]["after"]) == cards


@pytest.mark.parametrize("form", ["table", "yaml", "csv", "html"])
def test_every_form_goes_to_a_file(cli: Cli, tables: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / "plan"
    code, out, _ = cli("scan", "--warehouse", tables, "--origin-count", 0, "--format", form, "--output", file)
    assert (code, out) == (0, "")
    assert "night" in file.read_text()


def test_explain_says_every_figure(cli: Cli, tables: Path) -> None:
    code, out, _ = cli("explain", "day", "--warehouse", tables)
    assert code == 0
    for words in (
        "ns/Deployment/day/main on A100 in cluster c1",
        "quota: 80 GiB of memory, 100 % of compute",
        "history: 28 d",
        "memory peak: 50 GiB",
        "1.00 x peak",
        "added to every slice: 512 MiB",
        "compute p99 of its busiest hour of the week: 30.0 %, x 1.15 = 34.5 %",
        "advice: memory 80 GiB -> 50.5 GiB, compute 100 % -> 35 %, confidence high",
        "advice: share a card beyond its memory",
        "judged on the next 8.4 d",
        "members: ns/",
        "fullest hour of the week: ",
        "margin: x 1.10 on that load",
    ):
        assert words in out
    assert "refused, idle quota: opted out of advice" in cli("explain", "ns/Deployment/off", "--warehouse", tables)[1]


def test_backtest_prints_later_data_and_origins(cli: Cli, tables: Path) -> None:
    code, out, _ = cli("backtest", "--warehouse", tables, "--split", "2026-01-26")
    assert code == 0
    assert (
        "memory slices made from 21.0 d, judged on the next 7.0 d: no slice was exceeded in the 7.0 days after" in out
    )
    assert "no card above its memory in 8 of 8 origins" in out


def test_without_usage_it_judges_by_hours(cli: Cli, tmp_path: Path) -> None:
    write_fleet(tmp_path, fleet())
    _, out, _ = cli("scan", "--warehouse", tmp_path, "--format", "json", "--origin-count", 0)
    assert json.loads(out)["slices_backtest"]["resolution_seconds"] == 3600


def test_windows_above_the_slice_are_counted(tmp_path: Path, cli: Cli) -> None:
    """Six windows after the split are above the slice made before; in the profile it is a whole hour."""
    made = fleet()[0]
    made.memory_gib[25 * 24 + 3] = 60
    write(tmp_path, WORKLOAD_PROFILE, profile_rows(made))
    rows = list(usage_rows(made))
    spike = MONDAY_MS + (25 * 24 + 3) * HOUR_MS
    for row in rows:
        if spike + HOUR_MS // 2 <= row["window_start_ms"] < spike + HOUR_MS:
            row["memory_used_bytes_max"] = 8.0 * GIB
    write(tmp_path, CONTAINER_USAGE, rows)
    _, out, _ = cli("scan", "--warehouse", tmp_path, "--format", "json", "--origin-count", 0)
    test = json.loads(out)["slices_backtest"]
    assert test["hit_ratio"] == 1.0
    assert test["violated_ratio"] == pytest.approx(6 / 2424, rel=1e-6)  # 202 hours after the split


def test_gone_and_unattributed_containers(tmp_path: Path) -> None:
    """A workload without a row on the last day is dead; a container nobody is known for holds its card."""
    gone = Made("gone", daily(5, low=8, high=50, hours=range(8, 20)), daily(5, low=0.1, high=0.3, hours=range(8, 20)))
    alive = fleet()[0]
    write(tmp_path, WORKLOAD_PROFILE, [*profile_rows(alive), *profile_rows(gone)])
    unknown = next(iter(usage_rows(alive))) | {
        "window_start_ms": MONDAY_MS + (DAYS * 24 - 1) * HOUR_MS,
        "gpu_uuid": "GPU-unknown",
        "attribution": "two containers",
    }
    write(tmp_path, CONTAINER_USAGE, [unknown])
    found, held = History(FolderTables(tmp_path), Selection()).read_fleet(days_max=35)
    assert [fact.live_replicas for fact in found.facts] == [1, 0]
    assert held == {("c1", "A100"): frozenset({"GPU-unknown"})}


def test_each_cluster_has_its_own_last_day(tmp_path: Path) -> None:
    lagging = Made(
        "lagging", daily(5, low=8, high=50, hours=range(8, 20)), daily(5, low=0.1, high=0.3, hours=range(8, 20))
    )
    other = [row | {"cluster": "c2"} for row in profile_rows(lagging)]
    write(tmp_path, WORKLOAD_PROFILE, [*profile_rows(fleet()[0]), *other])
    found, _ = History(FolderTables(tmp_path), Selection()).read_fleet(days_max=35)
    assert [(key.cluster, fact.live_replicas) for key, fact in zip(found.keys, found.facts, strict=True)] == [
        ("c1", 1),
        ("c2", 1),
    ]


def test_hours_read_are_whole_mib_and_gaps_are_nan(tmp_path: Path) -> None:
    memory = np.full(72, 1.0)
    memory[[0, 1, 30, 71]] = np.nan
    memory[5] = 1 + 1 / (1 << 30)  # one byte more than a GiB
    write_fleet(tmp_path, [Made("day", memory, np.full(72, 0.12344))])
    found, _ = History(FolderTables(tmp_path), Selection()).read_fleet(days_max=2)
    assert found.hours == 48
    assert np.isnan(found.memory[0, [6, 47]]).all()
    found, _ = History(FolderTables(tmp_path), Selection()).read_fleet(days_max=35)
    assert found.memory[0, 5] == 1025
    assert set(found.core[0]) == {1234}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scan"], "give --warehouse"),
        (["scan", "--warehouse", "{tmp}/none"], "no such folder"),
        (["scan", "--warehouse", "{tmp}"], "no table workload_profile_1d"),
        (["scan", "--warehouse", "{tables}", "--workload", "("], "is not a regular expression"),
        (["scan", "--warehouse", "{tables}", "--workload", "nobody"], "no workload matches"),
        (["scan", "--warehouse", "{tables}", "--time-zone", "Mars/Base"], "is not a known time zone"),
        (["scan", "--warehouse", "{tables}", "--history-min", "soon"], "is not a duration such as 6h or 3d"),
        (["scan", "--warehouse", "{tables}", "--format", "xml"], "Invalid value"),
        (["scan", "--warehouse", "{tables}", "--output", "{tmp}/a/b"], "No such file"),
        (["scan", "--warehouse", "{tables}", "--split-ratio", "2"], "split_ratio must lie between 0 and 1"),
        (["scan", "--warehouse", "{tables}", "--pool-workload-count-max", "0"], "pool_workload_count_max is too small"),
        (["explain", "nobody", "--warehouse", "{tables}"], "no workload is called 'nobody'"),
        (["backtest", "--warehouse", "{tables}", "--split", "soon"], "is not a date"),
        (["backtest", "--warehouse", "{tables}", "--split", "2020-01-01"], "outside the history"),
    ],
)
def test_failures_are_one_line(cli: Cli, tables: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    code, out, err = cli(*(argument.format(tmp=tmp_path, tables=tables) for argument in arguments))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("table", "facts"),
    [(WORKLOAD_PROFILE, '{"schema_version": 99}'), (CONTAINER_USAGE, '{"hour": {"schema_version": 99}}')],
)
def test_newer_tables_are_refused(cli: Cli, tmp_path: Path, table: Table, facts: str) -> None:
    write_fleet(tmp_path, fleet()[:1], usage=True)
    newest = max((tmp_path / table.name).rglob("*.parquet")).parent
    (newest / MANIFEST_FILE).write_text(facts)
    code, _, err = cli("scan", "--warehouse", tmp_path)
    assert code == 1
    assert f"{table.name} has schema version 99, this program reads up to {WAREHOUSE_SCHEMA_VERSION}" in err


def test_empty_and_broken_tables_are_one_line(cli: Cli, tmp_path: Path) -> None:
    never = Made("dark", np.full(72, 1.0), np.full(72, 0.1))
    rows = [row | {"hourly_memory_used_bytes_max": [None] * 24} for row in profile_rows(never)]
    write(tmp_path, WORKLOAD_PROFILE, [row | {"hourly_core_used_ratio_p95": [None] * 24} for row in rows])
    assert "no workload was ever observed" in cli("scan", "--warehouse", tmp_path)[2]
    for file in (tmp_path / WORKLOAD_PROFILE.name).rglob("*.parquet"):
        file.write_bytes(b"PAR1 not really")
    code, _, err = cli("scan", "--warehouse", tmp_path)
    assert (code, err.count("\n")) == (1, 1)


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: day
  namespace: ns
spec:
  template:
    spec:
      containers:
        - name: main
          resources:
            limits:
              egpu.io/gpu: 1
              egpu.io/gpu-memory: 81920  # the whole card
"""


def git(folder: Path, *arguments: str) -> str:
    named = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(named, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_apply_as_a_real_process(tables: Path, tmp_path: Path) -> None:
    """Dry run shows the diff and changes nothing; then one commit on a branch; night has no manifest: exit 3."""
    (tmp_path / "day.yaml").write_text(MANIFEST)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "start")
    command = [sys.executable, "-m", "advisor", "apply", "--warehouse", str(tables), "--origin-count", "0"]
    command += ["--manifests", str(tmp_path)]
    dry = subprocess.run(command, capture_output=True, text=True, check=False)
    assert dry.returncode == 3
    assert "51712  # the whole card" in dry.stdout
    assert "night" in dry.stderr
    assert "nothing was written; --no-dry-run commits to egpu/plan-" in dry.stderr
    assert git(tmp_path, "branch", "--format", "%(refname:short)") == "main\n"
    done = subprocess.run([*command, "--no-dry-run", "--branch", "fit"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert git(tmp_path, "rev-list", "--count", "main..fit") == "1\n"
    assert "egpu.io/gpu-memory: 51712  # the whole card" in git(tmp_path, "show", "fit:day.yaml")


def test_apply_in_the_wrong_dialect_is_no_success(tables: Path, tmp_path: Path) -> None:
    """All that is found asks in another dialect: refused with that reason, exit 3."""
    (tmp_path / "day.yaml").write_text(MANIFEST)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "start")
    command = [sys.executable, "-m", "advisor", "apply", "--warehouse", str(tables), "--origin-count", "0"]
    command += ["--manifests", str(tmp_path), "--workload", "^day$", "--dialect", "hami"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "which is dialect egpu, not hami" in done.stderr
