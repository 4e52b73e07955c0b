"""A plan made by hand, with one of everything, for the tests of reports and write-back."""

import math
from dataclasses import replace

from advisor.contract import (
    PLAN_SCHEMA_VERSION,
    BackTest,
    CardTotal,
    Group,
    HourRange,
    Origin,
    Plan,
    Refusal,
    Resize,
    Slice,
    TrainWindow,
    WorkloadKey,
)

HOURS_PER_WEEK = 168
SPLIT_MS = 1_767_744_000_000
DAY_MS = 86_400_000
A100 = "NVIDIA-A100-SXM4-80GB"
H20 = "NVIDIA-H20"


def key(name, *, namespace="speech", kind="Deployment", container=None, gpu_model=H20):
    return WorkloadKey("north", namespace, kind, name, container or name, gpu_model)


def backtest(violated_ratio=0.0, hit_ratio=0.0):
    return BackTest(
        SPLIT_MS, 19.6, 8.4, 300, violated_ratio, hit_ratio, label="made from 19.6 d, judged on the next 8.4 d"
    )


def resize(workload, memory, cores=(100, 100), *, replicas=1, confidence="high"):
    """A resize of ``memory`` = (before, after) in MiB and ``cores`` = (before, after) in percent."""
    return Resize(
        workload,
        replicas,
        Slice(memory[0], cores[0]),
        Slice(memory[1], cores[1]),
        memory_peak_mib=int(memory[1] * 0.9),
        core_peak_percent=max(1, int(cores[1] * 0.8)),
        history_days=28.0,
        reason=f"peak {memory[1] * 0.9 / 1024:.1f} GiB in 28.0 d, 95 % of hours below {memory[1] * 0.5 / 1024:.1f} GiB",
        confidence=confidence,
        backtest=backtest(),
    )


def daily_load(*, low, high, hours):
    """168 values: ``high`` MiB with a swell inside the working hours, ``low`` outside, less at the weekend."""
    loads = []
    for hour in range(HOURS_PER_WEEK):
        day, clock = divmod(hour, 24)
        start, end = hours
        inside = start <= clock < end
        swell = 0.85 + 0.15 * math.sin(math.pi * (clock - start) / (end - start)) if inside else 1.0
        weekend = 0.6 if day >= 5 and inside else 1.0
        loads.append(int((high if inside else low) * swell * weekend))
    return tuple(loads)


def group(name, members, loads, *, cards=2, oversubscribed=True):
    total = tuple(sum(values) for values in zip(*loads, strict=True))
    return Group(
        name,
        members[0].cluster,
        members[0].gpu_model,
        tuple(members),
        cards,
        capacity_mib=98304,
        margin=1.08,
        oversubscribed=oversubscribed,
        load_mib=total,
        member_load_mib=tuple(loads),
        reason=f"peaks together {max(total) / 1024:.1f} GiB, the slices alone would need "
        f"{sum(max(load) for load in loads) * 1.3 / 1024:.0f} GiB",
        confidence="medium",
        backtest=backtest(0.0004, 0.1),
    )


def train_window(workload, *, replicas=2):
    return TrainWindow(
        workload,
        replicas,
        (*(HourRange(day, 0, 7) for day in range(5)), HourRange(5, 0, 24), HourRange(6, 0, 24)),
        free_memory_mib=61440,
        confirm_minutes=60,
        gpu_hours_per_week=133.5,
        idle_ratio=0.93,
        false_idle_ratio=0.012,
        reason="below 2 % of the card from 00 to 07 on 19 of 20 working days",
        confidence="high",
        backtest=backtest(0.012, 1.0),
    )


def empty_plan(**changes):
    plan = Plan(
        PLAN_SCHEMA_VERSION,
        plan_id="9f2c41d07b",
        made_ms=SPLIT_MS + 9 * DAY_MS,
        time_zone="Asia/Shanghai",
        history_days=28.0,
        workload_count=0,
        resizes=(),
        groups=(),
        train_windows=(),
        refusals=(),
        cards=(),
        slices_backtest=None,
        packing_backtest=None,
        origins=(),
    )
    return replace(plan, **changes)


def full_plan():
    """Six workloads sized, two groups, one train window, five refusals, two card models."""
    tts, ocr, translate = key("tts-voice"), key("ocr", namespace="vision"), key("translate", namespace="language")
    embedding = key("embedding", namespace="search", kind="StatefulSet", container="server")
    rerank = key("rerank", namespace="search", gpu_model=A100)
    diffusion = key("stable-diffusion-batch-render", namespace="vision-experiments", container="worker", gpu_model=A100)
    loads = (
        daily_load(low=4096, high=40960, hours=(8, 20)),
        daily_load(low=38912, high=3072, hours=(8, 20)),
        daily_load(low=9216, high=14336, hours=(10, 16)),
    )
    night = (daily_load(low=2048, high=61440, hours=(9, 18)), daily_load(low=52000, high=1024, hours=(7, 22)))
    return empty_plan(
        workload_count=48,
        resizes=(
            resize(tts, (98304, 24576), (100, 35), replicas=3),
            resize(ocr, (98304, 44032), (100, 60)),
            resize(translate, (98304, 41984), (100, 100), replicas=2, confidence="medium"),
            resize(embedding, (16384, 9216), (50, 20), replicas=4),
            replace(resize(rerank, (40960, 36864), (100, 30), confidence="low"), backtest=None),
            replace(resize(diffusion, (40960, 57344)), reason="grows 1.1 GiB a day: the quota is met in 5 d"),
        ),
        groups=(
            group("north-h20-1", (ocr, translate, embedding), loads),
            group("north-a100-1", (rerank, diffusion), night, cards=1, oversubscribed=False),
        ),
        train_windows=(train_window(tts),),
        refusals=(
            Refusal(
                "idle_quota",
                key("llm-chat", namespace="assistant"),
                "constant at 97 % of quota: pre-allocating framework",
            ),
            Refusal("idle_quota", key("asr-new"), "history 9 h < 3 d"),
            Refusal("idle_quota", key("asr-other"), "history 9 h < 3 d"),
            Refusal("complementary_peaks", key("megatron", kind="Job"), "pods over 4 cards"),
            Refusal("train_beside_inference", key("ocr", namespace="vision"), "unobserved 61 % of the time"),
        ),
        cards=(CardTotal("north", H20, 31, 14, 12), CardTotal("north", A100, 9, 7, 7)),
        slices_backtest=backtest(0.0001, 0.021),
        packing_backtest=backtest(0.0002, 0.05),
        origins=tuple(
            Origin(SPLIT_MS + day * DAY_MS, 40, 20 + day % 3, 0.0001 * day, 0.0003 * (day % 2)) for day in range(5)
        ),
    )
