"""The modules of deploy/engines, which is a folder of scripts and no package; Java that answers like the real one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "engines"))

STAND_IN = """\
#!{python}
# Stands in for java: reads the argument file, whose main class is a line of Python.
import re, sys
if sys.argv[1] == "-version":
    sys.exit(sys.stderr.write('openjdk version "{version}"\\n') and 0)
lines = open(sys.argv[1][1:]).read().splitlines()
exec(re.sub(r"\\\\(.)", r"\\1", lines[-1][1:-1]))
"""


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``java("17.0.1")``: from now on JAVA_HOME holds a stand-in of that version."""

    def make(version: str = "17.0.1") -> None:
        program = tmp_path / "jdk" / "bin" / "java"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STAND_IN.format(python=sys.executable, version=version))
        program.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    return make
