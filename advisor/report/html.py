"""The plan as one HTML page that needs nothing else: no network, no script, light and dark."""

from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from advisor.contract import Group, Plan, WorkloadKey
from advisor.dialects import changes_of, paste_ready
from advisor.report.curves import LoadChart, load_chart
from advisor.wording import (
    FALSE_IDLE,
    FINDING_TITLES,
    GROUP_ANNOTATION,
    backtest_sentence,
    backtest_short,
    count,
    day_and_hour,
    gibibytes,
    group_untested,
    hour_ranges,
    origins_missing,
    percent,
    resize_facts,
)
from egpu_runtime.contract.resources import DIALECTS


@dataclass(frozen=True, slots=True)
class Paste:
    """One workload's change as YAML to paste, for each dialect: (dialect, text)."""

    workload: WorkloadKey
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group and its picture."""

    group: Group
    chart: LoadChart


def page(plan: Plan) -> str:
    """The whole page; every text of the plan is escaped by the template engine."""
    environment = Environment(
        loader=PackageLoader("advisor", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        gibibytes=gibibytes,
        backtest_short=backtest_short,
        backtest_sentence=backtest_sentence,
        hour_ranges=hour_ranges,
        percent=percent,
    )
    environment.globals.update(count=count, day_and_hour=day_and_hour, finding_titles=FINDING_TITLES)
    environment.globals.update(false_idle=FALSE_IDLE, group_annotation=GROUP_ANNOTATION)
    return environment.get_template("plan.html.jinja").render(
        plan=plan,
        groups=[GroupView(group, load_chart(group)) for group in plan.groups],
        pastes=pastes(plan),
        resize_facts=resize_facts(plan),
        group_untested=group_untested(plan),
        origins_missing=origins_missing(plan),
        freed_mib=sum((each.before.memory_mib - each.after.memory_mib) * each.replicas for each in plan.resizes),
        refusals=list(_refusals_by_reason(plan)),
    )


def pastes(plan: Plan) -> list[Paste]:
    """YAML to paste of every workload that changes, in the plan's order."""
    texts: dict[WorkloadKey, list[tuple[str, str]]] = {}
    for name in DIALECTS:
        changes, _ = changes_of(plan, name)
        for change in changes:
            body = yaml.safe_dump(paste_ready(change), sort_keys=False, allow_unicode=True)
            texts.setdefault(change.workload, []).append((name, body))
    return [Paste(workload, tuple(found)) for workload, found in texts.items()]


def _refusals_by_reason(plan: Plan) -> Iterable[tuple[str, str, list[WorkloadKey]]]:
    """Refusals put together where finding and reason are the same: (finding, reason, workloads)."""
    together: dict[tuple[str, str], list[WorkloadKey]] = {}
    for refusal in plan.refusals:
        together.setdefault((refusal.finding, refusal.reason), []).append(refusal.workload)
    for (finding, reason), workloads in together.items():
        yield FINDING_TITLES[finding], reason, workloads
