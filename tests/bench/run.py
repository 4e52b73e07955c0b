"""make bench: every bench_*.py of this folder, each a line of JSON; printed as one table with the machine.

A bench prints ``{"bench": NAME, "rows": [{"what", "value", "unit", "goal"?, "ratio"?, "to"?}]}``.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parent


def machine() -> str:
    """Processor, cores and memory, as the table's title."""
    model = platform.processor() or "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def number(value: float) -> str:
    """Three significant digits, with thousands set apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measure(script: Path) -> dict[str, Any]:
    """Run one bench; its last line of output is its result."""
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Print the table row by row as benches end."""
    console = Console()
    table = Table(title=machine(), title_justify="left")
    for column in ("bench", "what", "value", "goal", "ratio"):
        table.add_column(column, justify="left" if column in ("bench", "what") else "right")
    wanted = sys.argv[1:]
    for script in sorted(FOLDER.glob("bench_*.py")):
        if wanted and script.stem.removeprefix("bench_") not in wanted:
            continue
        result = measure(script)
        for row in result["rows"]:
            ratio = f"{row['ratio']:.2f} x {row['to']}" if "ratio" in row else ""
            value = f"{number(row['value'])} {row['unit']}"
            table.add_row(result["bench"], row["what"], value, str(row.get("goal", "")), ratio)
    console.print(table)


if __name__ == "__main__":
    main()
