"""Foreign YAML in, the same YAML with just the values changed out: one folder a case, before and after."""

import difflib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_plan import daily_load, empty_plan, group, key, resize, train_window

from advisor.dialects import changes_of
from advisor.writeback.editing import Assignment, Site, assign
from advisor.writeback.manifests import ManifestError, leaves, parse
from advisor.writeback.rewriting import Declined, Rewritten, rewrite
from advisor.writeback.workloads import NotFound, find, read_manifests

CASES = Path(__file__).parent / "manifests"
MEMORY_MIB = (98304, 24576)
CORE_PERCENT = (100, 35)
KINDS = {"cron_job": "CronJob", "pod": "Pod"}
DIALECTS = {"hami": "hami", "hami_exclusive": "hami"}
IN_A_GROUP = {"pod", "group_and_priority", "kustomize_shared_base"}


def read_side(case: Path, side: str) -> dict[str, str]:
    """Files of one side of a case, path -> text, bytes as they are."""
    folder = case / side
    found = sorted(folder.rglob("*")) if folder.is_dir() else [case / f"{side}.yaml"]
    root = folder if folder.is_dir() else case
    names = {path: path.relative_to(root).as_posix().replace(f"{side}.yaml", "ocr.yaml") for path in found}
    return {name: path.read_bytes().decode() for path, name in names.items() if path.is_file()}


def plan_for(*, kind="Deployment", grouped=False, cores=CORE_PERCENT, memory=MEMORY_MIB):
    workload = key("ocr", namespace="vision", kind=kind)
    night = daily_load(low=20000, high=1000, hours=(8, 20))
    return empty_plan(
        resizes=(resize(workload, memory, cores),),
        groups=(group("north-h20-1", (workload, key("asr")), (night, night)),) if grouped else (),
        train_windows=(train_window(workload),) if grouped else (),
    )


def the_change(plan, dialect="egpu"):
    changes, _ = changes_of(plan, dialect)
    return next(change for change in changes if change.workload.name == "ocr")


def outcome(files, plan, *, dialect="egpu"):
    change = the_change(plan, dialect)
    manifests = read_manifests(files)
    found = find(manifests, change.workload, folder="")
    if isinstance(found, NotFound):
        return found
    return rewrite(manifests, found, change=change, files=files)


def check(files, expected, *, plan, dialect="egpu"):
    result = outcome(files, plan, dialect=dialect)
    assert isinstance(result, Rewritten), result
    after = {**files, **result.files}
    for name in files:
        differing = "".join(
            difflib.unified_diff(expected[name].splitlines(True), after[name].splitlines(True), "expected", "got")
        )
        assert after[name] == expected[name], f"{name}\n{differing}"
    again = outcome(after, plan, dialect=dialect)
    assert again == Rewritten({}), "the second time must find nothing to do"


def check_refused(files, reason, *, plan=None):
    if isinstance(files, str):
        files = {"ocr.yaml": files}
    result = outcome(files, plan or plan_for())
    assert isinstance(result, Declined | NotFound), result
    assert re.search(reason, result.reason), result.reason


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
def test_only_the_values_change(case):
    plan = plan_for(kind=KINDS.get(case, "Deployment"), grouped=case in IN_A_GROUP)
    check(
        read_side(CASES / case, "before"),
        read_side(CASES / case, "after"),
        plan=plan,
        dialect=DIALECTS.get(case, "egpu"),
    )


DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: ocr, namespace: vision}
spec:
  template:
    spec:
      containers:
      - name: ocr
        resources:
          limits:
            egpu.io/gpu: 1
            egpu.io/gpu-memory: 98304
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("98304", "65536", "changed since the plan: egpu.io/gpu-memory is 65536, the plan saw 98304"),
        ("98304", "lots", "'lots', not a whole number"),
        ("egpu.io/gpu-memory: 98304", "egpu.io/gpu-memory-percentage: 100", "given as egpu.io/gpu-memory-percentage"),
        ("egpu.io/gpu: 1\n            egpu.io/gpu-memory: 98304", "nvidia.com/gpu: 1", "dialect hami, not egpu"),
        ("    spec:\n", "    metadata: {annotations: {egpu.io/advice: 'off'}}\n    spec:\n", "advice: off"),
        ("vision}", "vision, labels: {egpu.io/advice: 'off'}}", "advice: off"),
        ("- name: ocr", "- name: ocr-server", "no container ocr"),
        ("namespace: vision", "namespace: elsewhere", "namespace elsewhere only"),
        ("{name: ocr,", "{name: ocr-other,", "no manifest defines it"),
        ("98304", "{{ .Values.gpu.memory }}", "Helm template"),
        ("98304", "98304\n  bad: [", "not YAML at line"),
        ("98304", "|\n              98304", "not a whole number|not a simple value"),
    ],
)
def test_no_is_an_answer_with_a_reason(old, new, reason):
    assert old in DEPLOYMENT
    check_refused(DEPLOYMENT.replace(old, new, 1), reason)


def test_a_small_change_is_not_worth_a_restart():
    check_refused(DEPLOYMENT, "less than 20 %", plan=plan_for(memory=(98304, 90112), cores=(100, 100)))


def test_an_anchor_that_others_share_is_refused():
    text = DEPLOYMENT.replace("gpu-memory: 98304", "gpu-memory: &mib 98304").replace(
        "metadata:", "x-note: 1\nmetadata:", 1
    )
    other = text + "      - name: tokenizer\n        resources: {limits: {egpu.io/gpu-memory: *mib}}\n"
    check_refused(other, "anchor that other places share")


def test_an_anchor_that_holds_itself_is_no_manifest():
    check_refused(DEPLOYMENT + "x: &x [*x]\n", "no manifest defines it|an anchor holds itself")


def test_a_base_of_two_overlays_is_not_changed_where_no_patch_can_be_added():
    files = read_side(CASES / "kustomize_shared_base", "before")
    files["prod/kustomization.yaml"] = files["prod/kustomization.yaml"].replace(
        "commonLabels:", "patches: []\ncommonLabels:"
    )
    check_refused(files, "its patches are not a block list")


def test_a_patch_that_cannot_be_read_stops_the_change():
    files = read_side(CASES / "kustomize_json6902", "before")
    twice = files["prod/kustomization.yaml"] + "patchesStrategicMerge: [unreadable.yaml]\n"
    check_refused({**files, "prod/kustomization.yaml": twice}, "a patch over it cannot be read")


def test_a_shared_patch_that_would_override_a_new_one_is_noticed():
    files = read_side(CASES / "kustomize_shared_base", "before")
    files["base/other.yaml"] = files["base/ocr.yaml"].replace("name: ocr", "name: asr")
    files["base/kustomization.yaml"] += "- other.yaml\n"
    files["prod/kustomization.yaml"] += (
        "patchesJson6902:\n- target: {kind: Deployment}\n  patch: |\n    - op: replace\n"
        "      path: /spec/template/spec/containers/0/resources/limits/egpu.io~1gpu-memory\n      value: 98304\n"
    )
    check_refused(files, "another patch would have the last word")


def test_a_value_that_would_be_more_than_one_value_is_refused():
    text = DEPLOYMENT.replace(
        "limits:\n            egpu.io/gpu: 1\n            egpu.io/gpu-memory: 98304", "limits: {a: 1}"
    )
    path = ("spec", "template", "spec", "containers", 0, "resources", "limits", "a")
    site = Site("ocr.yaml", 0)
    for smuggled in ("1, b: 2", "1}, requests: {a: 1", "1 # ", "2\n---\na: 1"):
        with pytest.raises(ManifestError):
            assign(text, site, assignments=[Assignment(path, smuggled, is_string=False, within=path[:-1])])
    changed = assign(text, site, assignments=[Assignment(path, "2", is_string=False, within=path[:-1])])
    assert changed == text.replace("{a: 1}", "{a: 2}")


def test_two_manifests_that_match_are_told_apart_by_the_cluster_only():
    both = {"south/ocr.yaml": DEPLOYMENT, "east/ocr.yaml": DEPLOYMENT}
    check_refused(both, "2 manifests match: east/ocr.yaml, south/ocr.yaml")
    north = {"south/ocr.yaml": DEPLOYMENT, "north/ocr.yaml": DEPLOYMENT}
    result = outcome(north, plan_for())
    assert isinstance(result, Rewritten)
    assert list(result.files) == ["north/ocr.yaml"]


scalar_texts = st.text(alphabet="ab:#-'\"{}[],&*!|>% \t→é", max_size=12)
comments = st.one_of(st.just(""), scalar_texts.map(lambda text: " # " + text))


@st.composite
def manifests(draw):
    """A deployment in a style of its own: indent, line end, quotes, order, comments, neighbours."""
    step = draw(st.integers(1, 6))
    dash_in = draw(st.booleans())
    quote = draw(st.sampled_from(["", "'", '"']))
    lines = [(0, "apiVersion: apps/v1"), (0, "kind: Deployment"), (0, "metadata: {name: ocr, namespace: vision}")]
    lines += [(0, "spec:"), (1, "template:"), (2, "spec:"), (3, "containers:")]
    limits = draw(
        st.permutations(["cpu: 4", "memory: 8Gi", "egpu.io/gpu: 1", f"egpu.io/gpu-memory: {quote}98304{quote}"])
    )
    if draw(st.booleans()):
        limits.append(f"egpu.io/gpu-cores: {quote}100{quote}")
    body = []
    for depth, line in lines:
        body.append(" " * step * depth + line + draw(comments))
    item = " " * (step * 3 + (step if dash_in else 0)) + "- "
    inside = " " * len(item)
    body.append(f"{item}name: ocr{draw(comments)}")
    body.append(f"{inside}resources:{draw(comments)}")
    if draw(st.booleans()):
        body.append(f"{inside}{' ' * step}limits: {{{', '.join(limits)}}}{draw(comments)}")
    else:
        body.append(f"{inside}{' ' * step}limits:{draw(comments)}")
        for limit in limits:
            body.append(f"{inside}{' ' * step * 2}{limit}{draw(comments)}")
            if draw(st.booleans()):
                body.append(f"{inside}# {draw(scalar_texts)}")
    text = draw(st.sampled_from(["\n", "\r\n"])).join(body)
    return draw(st.sampled_from(["", "\ufeff"])) + text + draw(st.sampled_from(["", "\n", "\n\n# end\n"]))


@given(manifests())
@settings(max_examples=80, deadline=None)
def test_every_byte_outside_the_change_stays(text):
    result = outcome({"ocr.yaml": text}, plan_for())
    assert isinstance(result, Rewritten), (text, result)
    after = result.files["ocr.yaml"]
    had_cores = "gpu-cores" in text
    changed = text.replace("98304", "24576").replace("gpu-cores: 100", "gpu-cores: 35")
    changed = re.sub(r"gpu-cores: (['\"])100", r"gpu-cores: \g<1>35", changed)
    if had_cores:
        assert after == changed
    else:
        # One line or one flow entry more, and nothing else.
        added = re.sub(r"(, |\r?\n *)egpu.io/gpu-cores: (['\"]?)35\2", "", after, count=1)
        assert added == changed
    values = leaves(parse(after)[0].root)
    limits = ("spec", "template", "spec", "containers", 0, "resources", "limits")
    assert values[(*limits, "egpu.io/gpu-memory")][1] == "24576"
    assert values[(*limits, "egpu.io/gpu-cores")][1] == "35"
    before = leaves(parse(text)[0].root)
    same = {path for path, value in before.items() if values.get(path) == value}
    assert before.keys() - same <= {(*limits, "egpu.io/gpu-memory"), (*limits, "egpu.io/gpu-cores")}
