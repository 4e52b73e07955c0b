"""The plan's page in a real browser: it renders at both widths, asks nobody for anything, and says no error."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sample_plan import full_plan

from advisor.report import render

pytestmark = pytest.mark.end_to_end

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000"),
)


def browse(tmp_path: Path, page: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Open a page with Chromium, the one ``CHROMIUM`` names or the PATH has."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not program:
        pytest.skip("no Chromium: neither CHROMIUM nor the PATH names one")
    return subprocess.run(
        [program, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "plan.html"
    path.write_text(render(full_plan(), "html"), encoding="utf-8")
    return path


def test_page_renders_and_is_quiet(tmp_path: Path, page: Path) -> None:
    done = browse(tmp_path, page, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    text = re.sub(r"<[^>]+>", " ", done.stdout)
    for words in ("cards", "Idle quota", "Complementary peaks", "Train beside inference", "Refused"):
        assert words in text, words


@pytest.mark.parametrize("width", [1280, 420])
def test_page_does_not_scroll_sideways(tmp_path: Path, page: Path, width: int) -> None:
    probe = "<script>document.title = 'width ' + document.documentElement.scrollWidth</script></body>"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    done = browse(tmp_path, page, f"--window-size={width},2000", "--dump-dom")
    (scroll_width,) = re.findall(r"<title>width (\d+)</title>", done.stdout)
    # headless Chromium has windows of at least 500 pixels
    assert int(scroll_width) <= max(width, 500)
