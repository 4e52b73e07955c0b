"""A plan in one system's words: keys, units, and what a system cannot say."""

import pytest
from sample_plan import A100, empty_plan, full_plan, key, resize, train_window

from advisor.dialects import changes_of, fragment, paste_ready

OCR = key("ocr", namespace="vision")


def check(given, expected, *, dialect="egpu"):
    """``given`` = findings of one workload; ``expected`` = what its container should ask for."""
    plan = empty_plan(**given)
    (change,), unwritable = changes_of(plan, dialect)
    assert unwritable == ()
    assert {path[-1]: value for path, value in fragment(change)} == expected


@pytest.mark.parametrize(
    ("dialect", "cores", "expected"),
    [
        ("egpu", (100, 35), {"egpu.io/gpu-memory": 24576, "egpu.io/gpu-cores": 35}),
        ("egpu", (50, 100), {"egpu.io/gpu-memory": 24576, "egpu.io/gpu-cores": 100}),
        ("hami", (100, 35), {"nvidia.com/gpumem": 24576, "nvidia.com/gpucores": 35}),
        # 100 would make the card exclusive there; 0 is no limit.
        ("hami", (50, 100), {"nvidia.com/gpumem": 24576, "nvidia.com/gpucores": 0}),
        ("hami", (100, 100), {"nvidia.com/gpumem": 24576}),
    ],
)
def test_a_slice_in_the_system_s_keys_and_units(dialect, cores, expected):
    check({"resizes": (resize(OCR, (98304, 24576), cores),)}, expected, dialect=dialect)


def test_priority_comes_with_a_train_window():
    check({"train_windows": (train_window(OCR),)}, {"egpu.io/priority": 0})


def test_one_manifest_of_two_card_models_gets_the_greater_slice():
    on_a100 = key("ocr", namespace="vision", gpu_model=A100)
    both = (resize(OCR, (98304, 24576), (100, 60)), resize(on_a100, (98304, 30720), (100, 35)))
    check({"resizes": both}, {"egpu.io/gpu-memory": 30720, "egpu.io/gpu-cores": 60})


def test_only_members_of_oversubscribed_groups_join_one():
    changes, unwritable = changes_of(full_plan(), "egpu")
    joined = {change.workload.name for change in changes if change.annotations}
    assert joined == {"ocr", "translate", "embedding"}
    assert unwritable == ()
    _, unwritable = changes_of(full_plan(), "hami")
    assert {each.workload.name for each in unwritable} == joined


@pytest.mark.parametrize(
    ("kind", "api_version", "template"),
    [
        ("Deployment", "apps/v1", ("spec", "template")),
        ("Job", "batch/v1", ("spec", "template")),
        ("CronJob", "batch/v1", ("spec", "jobTemplate", "spec", "template")),
        ("Pod", "v1", ()),
    ],
)
def test_what_is_pasted_is_a_patch_of_the_object(kind, api_version, template):
    workload = key("ocr", namespace="vision", kind=kind)
    (change,), _ = changes_of(empty_plan(resizes=(resize(workload, (98304, 24576)),)), "egpu")
    patch = paste_ready(change)
    assert (patch["apiVersion"], patch["kind"]) == (api_version, kind)
    assert patch["metadata"] == {"name": "ocr", "namespace": "vision"}
    node = patch
    for step in template:
        node = node[step]
    assert node["spec"]["containers"] == [{"name": "ocr", "resources": {"limits": {"egpu.io/gpu-memory": 24576}}}]
