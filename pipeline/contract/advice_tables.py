"""The tables that the advisor writes: what it advised, what was changed, what that saves.

One plan is one partition (``dt`` = day of the plan's evidence, ``plan_id``), replaced as a whole, so that recording a
plan again changes nothing. Rows carry text and numbers only: they are made of JSON lines in either engine.
"""

from typing import Final

from pipeline.contract.tables import Column, Table, Type

PLAN_PARTITIONS: Final = ("dt", "plan_id")
PLAN_FILES: Final = "[0-9a-z]*"
"""Any name but hidden ones: Hive chooses its own where it writes."""


def _column(name: str, kind: Type, unit: str, text: str) -> Column:
    return Column(name, kind, unit, "derived", text)


def _key(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "STRING", "", "key", f"Label {name}.") for name in names)


_WORKLOAD: Final = _key("cluster", "namespace", "workload_kind", "workload", "container", "gpu_model")
_MADE: Final = _column("made_ms", "BIGINT", "ms", "End of the data the plan was made from, epoch ms UTC.")

RECOMMENDATIONS: Final = Table(
    "recommendations",
    "What a plan advises for a workload, or why it does not. Written by egpu-advisor scan --record.",
    (
        *_WORKLOAD,
        Column("finding", "STRING", "", "key", "'idle_quota', 'complementary_peaks' or 'train_beside_inference'."),
        _MADE,
        _column("decision", "STRING", "", "'advised' or 'refused'."),
        _column("reason", "STRING", "", "The figures behind the decision, in a sentence."),
        _column("confidence", "STRING", "", "'low', 'medium' or 'high'; NULL where refused."),
        _column("replicas", "INT", "count", "Live replicas; NULL in a group."),
        _column("memory_quota_bytes_before", "DOUBLE", "bytes", "Quota of a replica when the plan was made."),
        _column("memory_quota_bytes_after", "DOUBLE", "bytes", "Quota of a replica that is advised."),
        _column("core_quota_ratio_before", "DOUBLE", "ratio", "Share of a card, 0-1, when the plan was made."),
        _column("core_quota_ratio_after", "DOUBLE", "ratio", "Share of a card, 0-1, that is advised."),
        _column("group_name", "STRING", "", "Workloads of one name are to share cards."),
        _column("group_cards", "INT", "count", "Cards the whole group takes."),
        _column("oversubscribed", "INT", "", "1 where the group's slices exceed its card, else 0."),
        _column("gpu_hours_per_week", "DOUBLE", "hours", "Card-hours a week a training job can take."),
        _column("train_hours", "STRING", "", "When, as 'Mon-Fri 00-07+20-24, Sat 00-24', in time_zone."),
        _column("time_zone", "STRING", "", "IANA name of the zone of train_hours."),
        _column("violated_ratio", "DOUBLE", "ratio", "Back-test: share of later time above the advice; NULL = none."),
        _column("backtest", "STRING", "", "Back-test: what was made from how much and judged on how much."),
    ),
    PLAN_PARTITIONS,
    PLAN_FILES,
)

SAVINGS: Final = Table(
    "savings",
    "What a plan sets free on the cards of one model. Written by egpu-advisor scan --record.",
    (
        *_key("cluster", "gpu_model"),
        Column("measure", "STRING", "", "key", "'forecast': expected when the plan was made."),
        _MADE,
        _column("history_days", "DOUBLE", "days", "Days of data the plan was made from."),
        _column("cards_before", "INT", "count", "Distinct cards that held a container on the last day."),
        _column("cards_after", "INT", "count", "Cards needed when all advice is taken."),
        _column("cards_bound", "INT", "count", "Cards no plan could do without."),
        _column("memory_bytes_freed", "DOUBLE", "bytes", "Memory quota given back by all live replicas."),
        _column("core_cards_freed", "DOUBLE", "cards", "Compute quota given back by all live replicas."),
        _column("gpu_hours_per_week", "DOUBLE", "hours", "Card-hours a week that training can take."),
        _column("method", "STRING", "", "How the figures were made, in a sentence."),
        _column("slice_violated_ratio", "DOUBLE", "ratio", "Back-test of the plan's slices; NULL = not made."),
        _column("card_violated_ratio", "DOUBLE", "ratio", "Back-test of the plan's shared cards; NULL = not made."),
        _column("backtest", "STRING", "", "Back-test: what was made from how much and judged on how much."),
    ),
    PLAN_PARTITIONS,
    PLAN_FILES,
)

ALLOCATION_CHANGES: Final = Table(
    "allocation_changes",
    "What became of a plan's changes when it was applied. Written by egpu-advisor apply --no-dry-run --record.",
    (
        *_WORKLOAD,
        _MADE,
        _column("outcome", "STRING", "", "'committed', 'already applied', 'refused' or 'not found'."),
        _column("reason", "STRING", "", "Why it was refused or not found."),
        _column("dialect", "STRING", "", "Dialect of the manifests, 'egpu' or 'hami'."),
        _column("memory_quota_bytes_after", "DOUBLE", "bytes", "Quota of a replica that was written; NULL = kept."),
        _column("core_quota_ratio_after", "DOUBLE", "ratio", "Share of a card, 0-1, that was written; NULL = kept."),
        _column("group_name", "STRING", "", "Group that shares cards; NULL = none."),
        _column("branch", "STRING", "", "Branch of the git repository."),
        _column("revision", "STRING", "", "Commit on it; NULL where nothing was committed."),
    ),
    PLAN_PARTITIONS,
    PLAN_FILES,
)

ADVICE_TABLES: Final = (RECOMMENDATIONS, SAVINGS, ALLOCATION_CHANGES)
