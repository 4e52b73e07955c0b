"""The labels that the job keeps of a series say all that our tables read of it."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from egpu_runtime.contract.exporters import ALIASES, SOURCES
from egpu_runtime.contract.metrics import METRICS
from egpu_runtime.contract.resources import GPU_RESOURCES_OF_KUBE_STATE
from pipeline.flink.series_table import series_table, series_table_text
from pipeline.normalise import read_series

RULES = {rule.name: tuple(each for each in series_table() if each.name == rule.name) for rule in series_table()}
ASKED = sorted({label for rule in series_table() for label in rule.labels})
NAMES = sorted(
    {*ASKED}
    | {theirs for source in SOURCES for names in source.labels.values() for theirs in names}
    | {ours for source in SOURCES for ours in source.labels}
    | {"replica", "instance", "job", "endpoint", "kind", "name"}
)
VALUES = ["", "x", "y", "false", "<none>", "dcgm-exporter-x", "NVIDIA-A100", "1", *sorted(GPU_RESOURCES_OF_KUBE_STATE)]


@st.composite
def series(draw: st.DrawFn) -> dict[str, str]:
    """Labels of a series: of those its name's rule lists, of all others, with values that rules look for."""
    name = draw(st.sampled_from(sorted(RULES)))
    of_rule = draw(st.dictionaries(st.sampled_from(RULES[name][-1].labels), st.sampled_from(VALUES), max_size=12))
    others = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=6))
    return {**others, **of_rule, "__name__": name}


@given(series())
@example({"__name__": "kube_pod_labels", "label_egpu_io_advice": "off", "pod": "p", "namespace": "n", "uid": "u"})
@example({"__name__": "DCGM_FI_DEV_FB_USED", "UUID": "g", "GPU_I_ID": "1", "GPU_I_PROFILE": "3g.20gb", "pod": "p"})
def test_a_series_reads_the_same_by_its_kept_labels(labels: dict[str, str]) -> None:
    expected = read_series(labels.items(), cluster_default="c")
    for rule in RULES[labels["__name__"]]:
        kept = {"__name__", *rule.labels}
        projected = {name: value for name, value in labels.items() if name in kept and value}
        found = read_series(projected.items(), cluster_default="c")
        # The last rule keeps everything, one before it the labels of the card alone.
        assert found == (expected if rule is RULES[rule.name][-1] else expected[:1])


@given(series())
def test_the_bound_is_that_of_every_reading(labels: dict[str, str]) -> None:
    for reading in read_series(labels.items(), cluster_default="c"):
        assert {rule.valid_max for rule in RULES[labels["__name__"]]} == {reading.valid_max}


def test_every_name_has_a_rule_and_scrape_labels_have_none() -> None:
    assert set(RULES) == {metric.name for metric in METRICS} | {alias.name for alias in ALIASES}
    assert not {"instance", "job", "replica", "__name__"} & set(ASKED)
    assert {"container", "resource"} < set(RULES["kube_pod_container_resource_limits"][0].labels)
    card, container = RULES["DCGM_FI_DEV_FB_USED"]
    assert {"GPU_I_PROFILE", "UUID"} < set(card.labels) < set(container.labels)
    assert not {"pod", "exported_pod", "namespace"} & set(card.labels)


def test_the_text_has_a_line_a_metric() -> None:
    lines = series_table_text(series_table()).splitlines()
    assert len(lines) == len(series_table())
    assert all(re.fullmatch(r"\w+( <[0-9.]+)?( \w+)+", line) for line in lines)
    assert next(line for line in lines if line.startswith("DCGM_FI_DEV_GPU_UTIL ")).split()[1] == "<101.0"
