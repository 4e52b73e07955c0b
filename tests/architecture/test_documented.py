"""Every public name has a docstring, every setting one with its default; outside names are quoted in contracts only."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from egpu_runtime.contract.configuration import ProcessSettings, describe

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("egpu_runtime", "collector", "pipeline", "advisor")
UNIT = re.compile(
    r"\b(bytes|MiB|GiB|seconds?|minutes?|hours?|days?|ms|milliseconds|percent|ratio|share|count|number|iterations|"
    r"points|samples|labels|characters|plain|name|path|folder|file|address|port|host|true|false|on|off|zone|regex|"
    r"times|multiplier|factor|URL|workloads|series|rows|threads|connections|records|cards|seed|per)\b",
    re.IGNORECASE,
)


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def test_every_public_name_has_a_docstring() -> None:
    missing = []
    for path in modules():
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            missing.append(f"{path.relative_to(ROOT)}: module")
        missing += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            for node in public_definitions(tree)
            if not ast.get_docstring(node)
        ]
    assert missing == []


@pytest.mark.parametrize("stage", PACKAGES)
def test_every_setting_says_its_unit_and_default(stage: str) -> None:
    module = importlib.import_module(f"{stage}.settings")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ProcessSettings) and value is not ProcessSettings
    ]
    assert classes
    settings = [setting for settings_class in classes for setting in describe(settings_class)]
    assert [setting.name for setting in settings if "default" not in setting.help.lower()] == []
    assert [setting.name for setting in settings if not UNIT.search(setting.help)] == []


def test_names_of_the_outside_world_are_quoted_in_contracts_only() -> None:
    outside = re.compile(
        r"""["'](egpu_(gpu|container|scheduler|pod|owner)_[a-z_]+|egpu\.io/[a-z-]+|nvidia\.com/[a-z-]+)["']"""
    )
    found = []
    for path in modules():
        if "contract" in path.relative_to(ROOT).parts:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number} {match[0]}"
            for number, line in enumerate(path.read_text().splitlines(), 1)
            for match in outside.finditer(line)
        ]
    assert found == []


def test_ignores_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for path in modules() for line in path.read_text().splitlines() if "# type: ignore" in line]
    with capsys.disabled():
        sys.stdout.write(f"\n{len(lines)} `type: ignore` in the packages\n")
    assert [line for line in lines if "# type: ignore[" not in line] == []
