"""The plan on a terminal: one line a workload, its reason in grey below, totals at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from advisor.contract import Group, Plan, Resize, TrainWindow, WorkloadKey
from advisor.wording import (
    FALSE_IDLE,
    FINDING_TITLES,
    GROUP_ANNOTATION,
    MIB_PER_GIB,
    backtest_sentence,
    backtest_short,
    count,
    day_and_hour,
    gibibytes,
    group_untested,
    hour_ranges,
    origins_missing,
    resize_facts,
    units_together,
)

GREY: Final = "bright_black"
LARGE_GIB: Final = 32
"""Memory that a workload gives back over all replicas from which its change is shown as large."""

MEDIUM_GIB: Final = 8
"""The same for a medium change."""

WIDTH_FOR_MODEL: Final = 136
"""Columns of a console from which the card model has a column of its own."""

WIDTH_FOR_BACKTEST: Final = 100
"""Columns from which back-test and confidence have a column; below, they go into the grey line."""

WIDTH_FOR_REFUSALS: Final = 100
"""Columns from which a refusal's reason stands beside the workload instead of below it."""

MARGIN: Final = 2
GAP: Final = 2
REASON_INDENT: Final = 6
NAME_WIDTH_MIN: Final = 16

T = TypeVar("T")

Header = tuple[str, str]
"""Title of a column and the side to which its cells are set."""

_CONFIDENCE_STYLES: Final = {"high": "green", "medium": "yellow", "low": "red"}


@dataclass(frozen=True, slots=True)
class _Line:
    """One workload's line: cells, and what stands in grey below."""

    cells: Sequence[Text | str]
    reason: str


def print_plan(plan: Plan, console: Console) -> None:
    """Print a plan; widths from 80 columns on are used well, and nothing relies on colour."""
    _print_head(plan, console)
    _print_resizes(plan, console)
    _print_groups(plan, console)
    _print_train_windows(plan, console)
    _print_refusals(plan, console)
    _print_origins(plan, console)
    _print_totals(plan, console)


def _print_head(plan: Plan, console: Console) -> None:
    made = day_and_hour(plan.made_ms, plan.time_zone)
    facts = f"{count(plan.workload_count, 'workload')}, {plan.history_days:.1f} d of history, {made} {plan.time_zone}"
    console.print(Text.assemble(("Plan ", "bold"), (plan.plan_id, "bold cyan"), "  ", (facts, GREY)))


def _title(console: Console, title: str, facts: str) -> None:
    console.print()
    console.print(Text.assemble((title, "bold"), "  ", (facts, GREY)))


def _print_lines(console: Console, headers: Sequence[Header], lines: Sequence[_Line]) -> None:
    """Lines in columns, each with its reason below. The first column gives way, the figures stay whole."""
    rows = [[Text(cell) if isinstance(cell, str) else cell for cell in line.cells] for line in lines]
    heads = [Text(name, style=f"{GREY} italic") for name, _ in headers]
    widths = [max(row[index].cell_len for row in [heads, *rows]) for index in range(len(headers))]
    spare = console.width - MARGIN - sum(widths[1:]) - GAP * (len(headers) - 1)
    widths[0] = min(widths[0], max(spare, NAME_WIDTH_MIN))
    _print_cells(console, headers, widths, heads)
    for row, line in zip(rows, lines, strict=True):
        _print_cells(console, headers, widths, row)
        _print_below(console, line.reason)


def _print_cells(console: Console, headers: Sequence[Header], widths: Sequence[int], cells: Sequence[Text]) -> None:
    line = Text(" " * MARGIN)
    for index, (cell, width, (_, side)) in enumerate(zip(cells, widths, headers, strict=True)):
        shown = cell.copy()
        shown.truncate(width, overflow="ellipsis")
        blank = " " * (width - shown.cell_len)
        gap = " " * GAP if index else ""
        line = line + gap + (Text(blank) + shown if side == "right" else shown + Text(blank))
    line.rstrip()
    console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _print_below(console: Console, text: str) -> None:
    """Grey lines under a row, wrapped with a hanging indent and without blanks at their ends."""
    if not text:
        return
    joined = units_together(text)
    for wrapped in Text(joined).wrap(console, max(console.width - REASON_INDENT, NAME_WIDTH_MIN)):
        line = wrapped.plain.replace("\u00a0", " ").rstrip()
        console.print(Text(" " * REASON_INDENT + line, style=GREY), no_wrap=True, overflow="ignore")


def _name(workload: WorkloadKey) -> Text:
    container = "" if workload.container == workload.name else f" [{workload.container}]"
    return Text.assemble((f"{workload.namespace}/", GREY), workload.name, (container, GREY))


def _change_style(resize: Resize) -> str:
    freed_gib = (resize.before.memory_mib - resize.after.memory_mib) * resize.replicas / MIB_PER_GIB
    if freed_gib < 0:
        return "magenta"
    return "bold red" if freed_gib >= LARGE_GIB else "yellow" if freed_gib >= MEDIUM_GIB else "green"


def _memory_change(resize: Resize) -> Text:
    before, after = gibibytes(resize.before.memory_mib), gibibytes(resize.after.memory_mib)
    return Text(before, style=GREY) if before == after else Text(f"{before} -> {after}", style=_change_style(resize))


def _core_change(resize: Resize) -> Text:
    before, after = resize.before.core_percent, resize.after.core_percent
    if before == after:
        return Text(f"{before} %", style=GREY)
    ratio = (before - after) / max(before, 1)
    style = "magenta" if ratio < 0 else "bold red" if ratio >= 0.5 else "yellow" if ratio >= 0.25 else "green"
    return Text(f"{before} % -> {after} %", style=style)


def _confidence(confidence: str) -> Text:
    return Text(confidence, style=_CONFIDENCE_STYLES.get(confidence, ""))


def _shown(console: Console) -> tuple[bool, bool]:
    """Whether the card model and the back-test get columns."""
    return console.width >= WIDTH_FOR_MODEL, console.width >= WIDTH_FOR_BACKTEST


def _below(console: Console, each: Resize | Group, model: str, missing: str = "-") -> str:
    """The grey line: the reason, and what has no column at this width."""
    with_model, with_backtest = _shown(console)
    parts = [each.reason, "" if with_model else model]
    if not with_backtest:
        parts += [f"back-test {backtest_short(each.backtest, missing)}", f"confidence {each.confidence}"]
    return "; ".join(part for part in parts if part)


def _print_resizes(plan: Plan, console: Console) -> None:
    if not plan.resizes:
        return
    freed = sum((each.before.memory_mib - each.after.memory_mib) * each.replicas for each in plan.resizes)
    _title(console, "Idle quota", f"{resize_facts(plan)}, {gibibytes(freed)} given back")
    with_model, with_backtest = _shown(console)
    headers = [("workload", "left"), *_when(with_model, ("card", "left"))]
    headers += [("pods", "right"), ("memory", "right"), ("compute", "right")]
    headers += _when(with_backtest, ("back-test", "right"), ("confidence", "left"))

    def line(each: Resize) -> _Line:
        cells: list[Text | str] = [_name(each.workload), *_when(with_model, each.workload.gpu_model)]
        cells += [str(each.replicas), _memory_change(each), _core_change(each)]
        cells += _when(with_backtest, backtest_short(each.backtest), _confidence(each.confidence))
        return _Line(cells, _below(console, each, each.workload.gpu_model))

    _print_lines(console, headers, [line(each) for each in plan.resizes])


def _when(condition: bool, *cells: T) -> list[T]:
    return list(cells) if condition else []


def _print_groups(plan: Plan, console: Console) -> None:
    if not plan.groups:
        return
    cards = sum(group.cards for group in plan.groups)
    _title(console, "Complementary peaks", f"{count(len(plan.groups), 'group')} on {count(cards, 'card')}")
    _print_below(console, GROUP_ANNOTATION)
    untested = group_untested(plan)
    with_model, with_backtest = _shown(console)
    headers = [("group", "left"), *_when(with_model, ("card", "left"))]
    headers += [("members", "right"), ("cards", "right"), ("load peak", "right"), ("of card", "right")]
    headers += [("margin", "right"), *_when(with_backtest, ("back-test", "right"), ("confidence", "left"))]

    def line(group: Group) -> _Line:
        cells: list[Text | str] = [group.name, *_when(with_model, group.gpu_model)]
        peak = max(group.load_mib, default=0)
        cells += [str(len(group.members)), str(group.cards), gibibytes(peak)]
        cells += [f"{peak * 100 / max(group.capacity_mib, 1):.0f} %", f"x {group.margin:.2f}"]
        cells += _when(with_backtest, backtest_short(group.backtest, untested), _confidence(group.confidence))
        members = ", ".join(f"{member.namespace}/{member.name}" for member in group.members)
        mark = " (oversubscribed)" if group.oversubscribed else ""
        return _Line(cells, f"{members}{mark}\n{_below(console, group, group.gpu_model, untested)}")

    _print_lines(console, headers, [line(group) for group in plan.groups])


def _print_train_windows(plan: Plan, console: Console) -> None:
    if not plan.train_windows:
        return
    hours = f"{plan.gpu_hours_per_week:.1f} GPU-hours a week"
    _title(console, "Train beside inference", f"{count(len(plan.train_windows), 'workload')}, {hours}")
    _print_below(console, FALSE_IDLE)
    with_model, _ = _shown(console)
    headers = [("workload", "left"), *_when(with_model, ("card", "left")), ("pods", "right"), ("free", "right")]
    headers += [("GPU-h/week", "right"), ("false idle", "right"), ("confidence", "left")]

    def line(each: TrainWindow) -> _Line:
        cells: list[Text | str] = [_name(each.workload), *_when(with_model, each.workload.gpu_model)]
        cells += [str(each.replicas), gibibytes(each.free_memory_mib), f"{each.gpu_hours_per_week:.1f}"]
        cells += [f"{each.false_idle_ratio * 100:.1f} %", _confidence(each.confidence)]
        rule = f"start after {each.confirm_minutes} idle minutes, stop at the first busy one"
        return _Line(cells, f"{hour_ranges(each.windows)} ({rule})\n{each.reason}")

    _print_lines(console, headers, [line(each) for each in plan.train_windows])


def _print_refusals(plan: Plan, console: Console) -> None:
    if not plan.refusals:
        return
    _title(console, "Refused", "looked at, and left as they are")
    wide = console.width >= WIDTH_FOR_REFUSALS
    headers = [("workload", "left"), ("finding", "left"), *_when(wide, ("reason", "left"))]
    longest = max(len(f"{each.workload.namespace}/{each.workload.name}") for each in plan.refusals)
    lines = []
    for each in plan.refusals:
        cells: list[Text | str] = [_name(each.workload), FINDING_TITLES[each.finding]]
        room = console.width - MARGIN - min(longest, console.width // 3) - 2 * GAP - len("train beside inference")
        beside = wide and len(each.reason) <= room
        cells += _when(wide, each.reason if beside else "")
        lines.append(_Line([Text(str(cell), style=GREY) for cell in cells], "" if beside else each.reason))
    _print_lines(console, headers, lines)


def _print_origins(plan: Plan, console: Console) -> None:
    _title(console, "Back-test", "the same rules made from earlier days, judged on later ones")
    said = {
        "slices": backtest_sentence(plan.slices_backtest, "slices"),
        "packing": backtest_sentence(plan.packing_backtest, "cards"),
        **({} if plan.origins else {"rolling origins": origins_missing(plan)}),
    }
    for name, sentence in said.items():
        console.print(Text(f"  {name}", style="bold"))
        _print_below(console, sentence)
    headers = [("rolling origin", "left"), ("cards", "right"), ("above slice", "right"), ("above card", "right")]
    lines = [
        _Line(
            [
                day_and_hour(origin.split_ms, plan.time_zone),
                f"{origin.cards_before} -> {origin.cards_after}",
                f"{origin.slice_violated_ratio * 100:.3f} %",
                f"{origin.card_violated_ratio * 100:.3f} %",
            ],
            "",
        )
        for origin in plan.origins
    ]
    if lines:
        _print_lines(console, headers, lines)


def _print_totals(plan: Plan, console: Console) -> None:
    console.print()
    console.print(Rule(style=GREY))
    headers = [("cards", "left"), ("before", "right"), ("after", "right"), ("freed", "right"), ("lower bound", "right")]
    lines = [
        _Line(
            [
                Text.assemble((f"{total.cluster}/", GREY), total.gpu_model),
                *(str(cards) for cards in (total.before, total.after, total.before - total.after, total.bound)),
            ],
            "",
        )
        for total in plan.cards
    ]
    if len(plan.cards) != 1:
        figures = (plan.cards_before, plan.cards_after, plan.cards_before - plan.cards_after, plan.cards_bound)
        lines.append(_Line([Text(str(cell), style="bold") for cell in ("all", *figures)], ""))
    _print_lines(console, headers, lines)
    console.print(Text(f"  {plan.gpu_hours_per_week:.1f} GPU-hours a week harvested for training"))
