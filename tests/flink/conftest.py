"""Our Java without a cluster, and the inputs of the folders whose meaning it shares."""

import base64
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CHECKOUT = TESTS.parent
ENGINES = CHECKOUT / "deploy" / "engines" / "engines.py"
# The corpus, the golden table and their readers are those of the collector and the pipeline.
sys.path.extend(str(TESTS / folder) for folder in ("collector", "pipeline", "conformance"))

Lines = list[list[str]]
Miniature = Callable[..., Lines]


@pytest.fixture(scope="session")
def flink_jars() -> str:
    """Class path of the installed Flink."""
    done = subprocess.run(
        [sys.executable, str(ENGINES), "install", "--only", "flink"], capture_output=True, text=True, check=True
    )
    return f"{done.stdout.split()[1]}/lib/*"


@pytest.fixture(scope="session")
def miniature(flink_jars: str, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """Runs ``egpu.Miniature``: lines of fields for records, see there."""
    classes = tmp_path_factory.mktemp("classes")
    sources = [
        *(CHECKOUT / "pipeline" / "flink" / "java" / "egpu").glob("*.java"),
        *(Path(__file__).parent / "java" / "egpu").glob("*.java"),
    ]
    javac = ["javac", "--release", "11", "-Xlint:all,-path,-processing,-classfile", "-Werror", "-cp", flink_jars]
    done = subprocess.run([*javac, "-d", str(classes), *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    def run(mode: str, row: str, records: Sequence[bytes], options: Mapping[str, str] | None = None) -> Lines:
        given = [f"{name}={value}" for name, value in (options or {}).items()]
        text = "".join(f"{base64.b64encode(record).decode()}\n" for record in records)
        done = subprocess.run(
            ["java", "-Xmx512m", "-cp", f"{classes}:{flink_jars}", "egpu.Miniature", mode, row, *given],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return [line.split("\t") for line in done.stdout.splitlines()]

    return run
