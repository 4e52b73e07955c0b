"""The programs behind the verbs that make tables: they start as the Makefile starts them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import building
import pytest


@pytest.mark.parametrize("verb", ["hook-accuracy", "hook-latency", "hook-oversubscription", "hook-bench"])
def test_a_table_takes_no_arguments(verb: str) -> None:
    recipe = re.search(rf"^{verb}:.*\n\t(?P<command>.*)$", (building.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    command = recipe["command"].replace("$(DEV)/bin/python", shlex.quote(sys.executable))
    result = subprocess.run(f"{command} all", shell=True, cwd=building.ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (1, "error: takes no arguments, not all\n")
