"""Reports: every form holds every finding, the table fits its width, the page needs nothing from outside."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml
from rich.console import Console
from sample_plan import backtest, empty_plan, full_plan, group, key

from advisor.contract import HourRange, Refusal
from advisor.explain import backtest_report
from advisor.report import render
from advisor.report.curves import HOURS_PER_WEEK, MEMBERS_SHOWN_MAX, load_chart
from advisor.report.table import print_plan
from advisor.wording import backtest_sentence, gibibytes, hour_ranges
from egpu_runtime.contract.process import Failure

VOID_ELEMENTS = {"meta", "line", "path", "br", "link", "img", "input"}


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv", "html"])
def test_every_form_names_every_workload_and_is_the_same_twice(form):
    plan = full_plan()
    text = render(plan, form, console_width=160)
    assert text == render(plan, form, console_width=160)
    for workload in [each.workload for each in (*plan.resizes, *plan.train_windows, *plan.refusals)]:
        assert workload.name in text
    for each in plan.groups:
        assert each.name in text
    render(empty_plan(), form)


def test_json_and_yaml_are_the_plan_itself():
    plan = full_plan()
    as_json = json.loads(render(plan, "json"))
    assert as_json == yaml.safe_load(render(plan, "yaml"))
    assert list(as_json) == list(plan.__dataclass_fields__)
    assert as_json["resizes"][0]["after"] == {"memory_mib": 24576, "core_percent": 35}


def test_csv_has_one_row_a_finding_or_refusal():
    plan = full_plan()
    rows = list(csv.DictReader(io.StringIO(render(plan, "csv"))))
    assert len(rows) == plan.finding_count + len(plan.refusals)
    first, refusal = rows[0], rows[-1]
    assert (first["memory_mib_before"], first["memory_mib_after"], first["status"]) == ("98304", "24576", "advised")
    assert (refusal["status"], refusal["reason"]) == ("refused", "unobserved 61 % of the time")
    assert {row["finding"] for row in rows} == {"idle_quota", "complementary_peaks", "train_beside_inference"}


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_table_fits_and_needs_no_colour(width):
    text = render(full_plan(), "table", console_width=width)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    assert not [line for line in lines if line != line.rstrip()]
    assert "\x1b" not in text
    for words in (
        "96 GiB -> 24 GiB",
        "100 % -> 35 %",
        "Mon-Fri 00-07, Sat+Sun 00-24",
        "history 9 h < 3 d",
        "133.5",
        "oversubscribed",
        "x 1.08",
    ):
        assert words in text
    assert re.search(r"all\s+40\s+21\s+19\s+19", text)
    # The back-test and its confidence are there at every width, in a column or in the grey line.
    assert len(re.findall(r"0\.00\s%\son\snext\s+8\.4\sd", text)) == 5


@pytest.mark.parametrize("form", ["table", "html"])
def test_what_a_reader_asks_is_said(form):
    plan = full_plan()
    plan = replace(plan, groups=(plan.groups[0], replace(plan.groups[1], backtest=None)), origins=(), history_days=10.0)
    text = " ".join(re.sub(r"<[^>]+>", " ", render(plan, form, console_width=120)).split())
    for words in (
        "memory of 6, compute of 4 workloads",
        "Members whose slices fit need no annotation",
        "not made by the earlier rule",
        "none: needs 14 + 7 days of history",
        "0.01 % of the time above, 2.1 % of the workloads touched (5-minute windows)",
    ):
        assert words in text
    assert text.count("False idle: the share of the harvested time") == 1
    assert "rolling origins: none: needs 14 + 7 days of history" in backtest_report(plan)


def test_only_a_reason_too_long_stands_below_its_refusal():
    text = render(
        empty_plan(refusals=(Refusal("idle_quota", key("ocr"), "a long reason " * 12),)), "table", console_width=120
    )
    assert "below" not in text
    assert " ".join(text.split()).count("a long reason") == 12


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ("slices", "no slice was exceeded in the 8.4 days after (5-minute windows)"),
        ("card", "no card was exceeded in the 8.4 days after (5-minute windows)"),
        ("hours", "the workload was never busy in the 8.4 days after (5-minute windows)"),
    ],
)
def test_a_clean_backtest_says_what_did_not_happen(judged, expected):
    assert backtest_sentence(backtest(), judged).endswith(expected)


def test_large_changes_stand_out_in_colour():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard", record=True)
    print_plan(full_plan(), console)
    styled = console.export_text(styles=True)
    assert "\x1b[1;31m96 GiB -> 24 GiB" in styled
    assert "\x1b[32m40 GiB -> 36 GiB" in styled
    assert "\x1b[35m40 GiB -> 56 GiB" in styled


class _Page(HTMLParser):
    """Checks that elements nest, and gathers tags, attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.texts, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID_ELEMENTS:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read_page(plan):
    page = _Page()
    text = render(plan, "html")
    page.feed(text)
    page.close()
    assert page.open == []
    return page, text


def test_the_page_is_whole_and_needs_nothing_from_outside():
    page, text = read_page(full_plan())
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in {"src", "href"}]
    assert "@import" not in text
    assert "url(" not in text
    assert page.tags.count("svg") == 2
    assert "prefers-color-scheme: dark" in text
    words = " ".join("".join(page.texts).split())
    for part in (
        "19 cards can be freed",
        "40 → 21",
        "margin x 1.08",
        "egpu.io/gpu-memory: 24576",
        "nvidia.com/gpumem: 24576",
        "Sat",
    ):
        assert part in words


def test_the_page_shows_yaml_that_says_the_change():
    page, _ = read_page(full_plan())
    documents = [yaml.safe_load(text) for text in page.texts if text.startswith("apiVersion:")]
    first = documents[0]
    assert first["metadata"] == {"name": "tts-voice", "namespace": "speech"}
    container = first["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {
        "egpu.io/gpu-memory": 24576,
        "egpu.io/gpu-cores": 35,
        "egpu.io/priority": 0,
    }
    groups = [each["spec"]["template"].get("metadata", {}).get("annotations") for each in documents]
    assert groups.count({"egpu.io/oversubscription-group": "north-h20-1"}) == 3


def test_the_page_escapes_what_it_is_told():
    nasty = key("<script>alert(1)</script>", namespace='"&')
    plan = empty_plan(refusals=(Refusal("idle_quota", nasty, "<b>no</b>"),))
    page, text = read_page(plan)
    assert "script" not in page.tags
    assert "<b>no</b>" not in text


def test_a_chart_stacks_every_member_up_to_the_peak():
    loads = tuple(tuple(100 * (member + 1) for _ in range(HOURS_PER_WEEK)) for member in range(14))
    members = tuple(key(f"service-{number}") for number in range(14))
    chart = load_chart(group("north-h20-9", members, loads))
    assert len(chart.bands) == MEMBERS_SHOWN_MAX + 1
    assert chart.bands[-1].label == "5 others"
    assert chart.bands[-1].peak == "1.5 GiB"
    highest = min(float(y) for band in chart.bands for y in re.findall(r",([0-9.]+)", band.path))
    assert highest == pytest.approx(chart.peak.position, abs=0.11)
    assert chart.capacity.position < chart.peak.position < chart.bottom
    assert [tick.label for tick in chart.days] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert chart.load_ticks[0].position == chart.bottom


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(0, 0, 7), (1, 0, 7), (2, 0, 7)], "Mon-Wed 00-07"),
        ([(5, 0, 24), (6, 0, 24), (0, 1, 5)], "Mon 01-05, Sat+Sun 00-24"),
        ([(0, 20, 24), (0, 0, 7), (1, 0, 7), (1, 20, 24), (4, 0, 6)], "Mon+Tue 00-07+20-24, Fri 00-06"),
        ([(0, 0, 6), (2, 0, 6), (3, 0, 6), (4, 0, 6)], "Mon+Wed-Fri 00-06"),
        ([], ""),
    ],
)
def test_hours_are_said_shortly(ranges, expected):
    assert hour_ranges(HourRange(*each) for each in ranges) == expected


@pytest.mark.parametrize(
    ("memory_mib", "expected"),
    [(98304, "96 GiB"), (9728, "9.5 GiB"), (512, "512 MiB"), (0, "0 MiB"), (-2048, "-2 GiB"), (1024, "1 GiB")],
)
def test_memory_is_said_shortly(memory_mib, expected):
    assert gibibytes(memory_mib) == expected


def test_an_unknown_form_names_the_known_ones():
    with pytest.raises(Failure, match="use one of table, json, yaml, csv, html"):
        render(empty_plan(), "pdf")
