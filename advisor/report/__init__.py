"""Reports: one plan as a table for people, a page for customers, and JSON, YAML or CSV for programs."""

import io
from typing import Literal, get_args

import msgspec
import yaml
from rich.console import Console

from advisor.contract import Plan
from advisor.report.html import page
from advisor.report.rows import as_csv
from advisor.report.table import print_plan
from egpu_runtime.contract.process import Failure

ReportForm = Literal["table", "json", "yaml", "csv", "html"]

CONSOLE_WIDTH_DEFAULT = 120
"""Columns of a table that is written to a file."""


def render(plan: Plan, form: str, *, console_width: int = CONSOLE_WIDTH_DEFAULT) -> str:
    """A plan as text in one of the forms ``table json yaml csv html``.

    The table comes without colours and is ``console_width`` columns wide.

    JSON and YAML hold the plan as it stands, keys in the order of :mod:`advisor.contract`. Raises Failure for a form
    that does not exist.
    """
    match form:
        case "json":
            return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"
        case "yaml":
            return yaml.safe_dump(
                msgspec.to_builtins(plan), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
            )
        case "csv":
            return as_csv(plan)
        case "html":
            return page(plan)
        case "table":
            text = io.StringIO()
            print_plan(plan, Console(file=text, width=console_width, color_system=None, force_terminal=False))
            return text.getvalue()
    raise Failure(f"no report form {form!r}: use one of {', '.join(get_args(ReportForm))}")
