"""Manners of every process: where settings come from, one line for a failure, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = '''
import logging
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from egpu_runtime.contract.configuration import ProcessSettings
from egpu_runtime.contract.process import Failure, command_line, run, with_settings


@dataclass(frozen=True, kw_only=True)
class ShopSettings(ProcessSettings):
    """A shop."""

    queue_count_max: Annotated[int, msgspec.Meta(ge=1)] = 5
    """People in the queue, count. Default 5."""

    open_at_night: bool = False
    """Whether it is open at night. Default off."""

    name: str | None = None
    """Name of the shop. Default none."""


app = command_line("A shop.")


@app.command()
@with_settings(ShopSettings)
def sell(*, settings: ShopSettings, what: Annotated[str, typer.Option(help="Goods.")]) -> int:
    """Sell."""
    match what:
        case "nothing":
            raise Failure("there is nothing to sell")
        case "file":
            open("/no/such/file")
        case "interrupt":
            raise KeyboardInterrupt
        case "two":
            return 2
    logging.getLogger("shop").info("sold %s", what)
    typer.echo(f"{settings.queue_count_max} {settings.open_at_night} {settings.name}")
    return 0


run(app)
'''


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(PROGRAM)
    return path


def check(shop: Path, arguments: list[str], *, code: int, out: str = "", err: str = "") -> None:
    """Run the program; its exit code, and what its streams must contain in one line."""
    done = subprocess.run(
        [sys.executable, str(shop), "sell", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"EGPU_SHOP_QUEUE_COUNT_MAX": "7", "PATH": "/usr/bin"},
    )
    assert done.returncode == code, done.stderr
    assert out in done.stdout
    assert err in done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stderr.count("\n") == 1


def test_flags_win_over_the_environment_and_that_over_the_file(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('queue_count_max = 6\nname = "corner"\n')
    check(shop, ["--what", "tea", "--config", str(file)], code=0, out="7 False corner")
    check(shop, ["--what", "tea", "--queue-count-max", "8", "--open-at-night"], code=0, out="8 True None")


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (["--what", "nothing"], "error: there is nothing to sell"),
        (["--what", "file"], "error: /no/such/file: No such file or directory"),
        (["--what", "interrupt"], "error: interrupted"),
        ([], "error: missing option --what"),
        (["--what"], "error: Option '--what' requires an argument"),
        (["--nope"], "error: No such option: --nope"),
        (["--what", "tea", "--queue-count-max", "0"], "error: settings: Expected `int` >= 1 - at `$.queue_count_max`"),
        (["--what", "tea", "--queue-count-max", "many"], "error: Invalid value for '--queue-count-max'"),
        (["--what", "tea", "--log-form", "xml"], "error: settings: Invalid enum value 'xml' - at `$.log_form`"),
        (["--what", "tea", "--config", "/no/such.toml"], "error: Invalid value for '--config'"),
    ],
)
def test_every_failure_is_one_line_and_code_1(shop: Path, arguments: list[str], err: str) -> None:
    check(shop, arguments, code=1, err=err)


@pytest.mark.parametrize(
    ("text", "err"),
    [
        (b"quue = 1\n", "error: settings file: unknown setting 'quue'"),
        (b"queue_count_max = \n", "error: settings file is not TOML"),
        (b'queue_count_max = "x"\n', "error: settings file: Expected `int`, got `str` - at `$.queue_count_max`"),
        (b"\xff\xfe\n", "error: settings file is not UTF-8"),
    ],
)
def test_a_wrong_settings_file_is_one_line(shop: Path, tmp_path: Path, text: bytes, err: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_bytes(text)
    check(shop, ["--what", "tea", "--config", str(file)], code=1, err=err)


def test_a_code_that_a_command_names_is_its_own(shop: Path) -> None:
    done = subprocess.run([sys.executable, str(shop), "sell", "--what", "two"], capture_output=True, check=False)
    assert done.returncode == 2


def test_settings_are_printed_without_what_the_command_needs_and_read_back(shop: Path, tmp_path: Path) -> None:
    printed = subprocess.run(
        [sys.executable, str(shop), "sell", "--print-settings", "--name", 'Tom\'s "Tea"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    file = tmp_path / "printed.toml"
    file.write_text(printed)
    check(shop, ["--what", "tea", "--config", str(file)], code=0, out="""7 False Tom's "Tea\"""")


def test_a_log_line_is_plain_or_one_json_object(shop: Path) -> None:
    command = [sys.executable, str(shop), "sell", "--what", "tea"]
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert plain.endswith(" INFO shop: sold tea\n")
    line = subprocess.run([*command, "--log-form", "json"], capture_output=True, text=True, check=True).stderr
    parsed = json.loads(line)
    assert (parsed["level"], parsed["process"], parsed["message"]) == ("info", "shop", "sold tea")
