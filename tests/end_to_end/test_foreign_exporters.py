"""Clusters that do not run our runtime: HAMi, dcgm-exporter and volcano-vgpu as Prometheus sends them, up to the diff.

Four clusters send four days of samples, one every five minutes, by the real chain. The bodies are made here and not by
the replay, so that nothing of ours decides how a peer's series is spelled. Numbers of the plan are computed by hand
from the rule for four days of history: 3.25 x peak + 512 MiB, in steps of 64, at least 1024; compute 1.15 x the peak.
"""

import http.client
import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cramjam
import pytest
from stages import Chain

START_MS = 1_767_571_200_000  # Monday, 2026-01-05T00:00Z
STEP_MS = 300_000
STEPS_PER_HOUR = 12
HOURS = 96
BLANK_INT32 = 0x7FFFFFF0
BLANK_INT64 = 9_223_372_036_854_775_794
MIB = 1 << 20
GIB = 1 << 30
A100, A10, H100, V100 = (
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA A10",
    "NVIDIA H100 80GB HBM3",
    "Tesla V100-SXM2-32GB",
)

Value = Callable[[int], float | None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """One series as Prometheus sends it: its labels, and its value at each step (None: not exported then)."""

    labels: dict[str, str]
    value: Value


def always(value: float) -> Value:
    return lambda _step: value


def busy_mornings(low: float, high: float) -> Value:
    """``high`` from 10:00 to 12:00 each day, else ``low``: neither constant nor growing."""
    return lambda step: high if step // STEPS_PER_HOUR % 24 in (10, 11) else low


def with_blanks(value: Value, *, every: int, blank: float) -> Value:
    """Every so many steps the exporter's word for "no value" instead."""
    return lambda step: blank if step % every == 0 else value(step)


class Scrape:
    """Series of one cluster. ``target`` = labels that Prometheus adds to what it scrapes, which win over equal ones
    of the exporter (honor_labels off): those are sent on as ``exported_``."""

    def __init__(self, **external: str) -> None:
        self.external = external
        self.series: list[Sent] = []

    def add(self, name: str, value: Value, target: dict[str, str], /, **labels: str) -> None:
        kept = {f"exported_{key}" if key in target else key: text for key, text in labels.items() if text}
        self.series.append(Sent({"__name__": name, **kept, **target, **self.external}, value))


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def body(series: Iterable[Sent], steps: range) -> tuple[bytes, int]:
    """A WriteRequest of Remote Write 1.0, compressed, and how many samples it holds."""
    parts, count = [], 0
    for each in series:
        found = [(step, value) for step in steps if (value := each.value(step)) is not None]
        labels = (
            field(1, field(1, key.encode()) + field(2, text.encode())) for key, text in sorted(each.labels.items())
        )
        samples = (
            field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(START_MS + step * STEP_MS))
            for step, value in found
        )
        if found:
            parts.append(field(1, b"".join((*labels, *samples))))
            count += len(found)
    return bytes(cramjam.snappy.compress_raw(b"".join(parts))), count


def send(url: str, series: list[Sent]) -> int:
    """Send everything hour by hour on one connection; returns the number of samples."""
    address = urlsplit(url)
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    total = 0
    for hour in range(HOURS):
        content, count = body(series, range(hour * STEPS_PER_HOUR, (hour + 1) * STEPS_PER_HOUR))
        connection.request("POST", address.path, content, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 204), text
        total += count
    connection.close()
    return total


KSM = {"job": "kube-state-metrics", "instance": "10.0.0.9:8080"}
"""Scraped with honor_labels on, as its own chart and kube-prometheus do."""


@dataclass(frozen=True)
class Pod:
    """A pod as kube-state-metrics tells it; ``owners`` = (kind, name) upwards, ReplicaSet then Deployment or so."""

    namespace: str
    name: str
    node: str
    owners: tuple[tuple[str, str], ...] = ()
    containers: tuple[str, ...] = ("server",)

    @property
    def uid(self) -> str:
        return f"uid-{self.namespace}-{self.name}"


def kube_state(scrape: Scrape, pod: Pod, *, resource: str = "nvidia_com_gpu", target: dict[str, str] = KSM) -> None:
    """What kube-state-metrics says of a pod and its owners."""
    of_pod = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid}
    scrape.add("kube_pod_info", always(1), target, **of_pod, node=pod.node, host_ip="10.0.1.1", pod_ip="10.1.2.3")
    kinds = pod.owners or (("<none>", "<none>"),)
    (kind, name), *above = kinds
    controls = "true" if pod.owners else "<none>"
    scrape.add(
        "kube_pod_owner", always(1), target, **of_pod, owner_kind=kind, owner_name=name, owner_is_controller=controls
    )
    for owner_kind, owner_name in above:
        lower, label = ("replicaset", "replicaset") if kind == "ReplicaSet" else ("job", "job_name")
        names = {"namespace": pod.namespace, label: name, "owner_kind": owner_kind, "owner_name": owner_name}
        scrape.add(f"kube_{lower}_owner", always(1), target, **names, owner_is_controller="true")
    for container in pod.containers:
        asked = {**of_pod, "container": container, "node": pod.node}
        limits = (("cpu", "core", 4.0), ("memory", "byte", 16.0 * GIB), (resource, "integer", 1.0))
        for each, unit, amount in limits:
            scrape.add("kube_pod_container_resource_limits", always(amount), target, **asked, resource=each, unit=unit)


def deployment(name: str) -> tuple[tuple[str, str], ...]:
    return (("ReplicaSet", f"{name}-7d9f"), ("Deployment", name))


class Hami:
    """HAMi's two exporters on one node with one card, under its new or its legacy names."""

    def __init__(self, scrape: Scrape, node: str, card: tuple[str, str, int], *, new: bool) -> None:
        self.scrape, self.node, self.new = scrape, node, new
        self.uuid, self.model, self.total_mib = card
        # A pod monitor with the node relabelled: namespace, pod, container and node all clash with HAMi's own.
        own = {"namespace": "kube-system", "container": "vgpu-monitor", "pod": f"hami-device-plugin-{node}"}
        self.monitor = {**own, "node": node} if new else {"job": "hami-monitor"}
        self.scheduler = (
            {**own, "container": "scheduler", "pod": "hami-scheduler-0", "node": "control-1"}
            if new
            else {"job": "hami-scheduler"}
        )

    def card(self, *, heard: bool = True) -> None:
        where = self._labels(
            ("node", "device_uuid", "device_type", "device_index"), "nodeid deviceuuid devicetype deviceidx"
        )
        # The monitor says NVIDIA twice where NVML says it once.
        labels = dict(zip(where, (self.node, self.uuid, f"NVIDIA-{self.model}", "0"), strict=True))
        if heard:
            used = "hami_host_gpu_memory_used_bytes" if self.new else "HostGPUMemoryUsage"
            ratio = "hami_host_gpu_utilization_ratio" if self.new else "HostCoreUtilization"
            self.scrape.add(used, always(12 * GIB), self.monitor, **labels)
            self.scrape.add(ratio, always(40), self.monitor, **labels)
        labels = dict(zip(where, (self.node, self.uuid, self.model, "0"), strict=True))
        limit = "hami_gpu_memory_limit_bytes" if self.new else "GPUDeviceMemoryLimit"
        self.scrape.add(limit, always(self.total_mib * MIB), self.scheduler, **labels, zone="vGPU")

    def given(self, pod: Pod, index: int, memory_mib: int, core_percent: int) -> None:
        """What the scheduler gave the pod's container of that index."""
        where = self._labels(
            ("namespace", "node", "pod", "container_index", "device_uuid"),
            "podnamespace nodename podname containeridx deviceuuid",
        )
        labels = dict(zip(where, (pod.namespace, self.node, pod.name, str(index), self.uuid), strict=True))
        memory = "hami_vgpu_memory_allocated_bytes" if self.new else "vGPUMemoryAllocated"
        core = "hami_vgpu_core_allocated_ratio" if self.new else "vGPUCoreAllocated"
        self.scrape.add(memory, always(memory_mib * MIB), self.scheduler, **labels, zone="vGPU")
        self.scrape.add(core, always(core_percent), self.scheduler, **labels, zone="vGPU")

    def used(self, pod: Pod, container: str, limit_mib: int, *, memory_mib: Value, core_percent: Value) -> None:
        """What the monitor reads from the container's shared region."""
        where = self._labels(
            ("namespace", "pod", "container", "vdevice_index", "device_uuid"),
            "podnamespace podname ctrname vdeviceid deviceuuid",
        )
        labels = dict(zip(where, (pod.namespace, pod.name, container, "0", self.uuid), strict=True))
        names = (
            ("hami_vgpu_memory_used_bytes", "hami_vgpu_memory_limit_bytes", "hami_container_device_utilization_ratio")
            if self.new
            else (
                "vGPU_device_memory_usage_in_bytes",
                "vGPU_device_memory_limit_in_bytes",
                "Device_utilization_desc_of_container",
            )
        )
        values: tuple[Value, ...] = (in_bytes(memory_mib), always(limit_mib * MIB), core_percent)
        for name, value in zip(names, values, strict=True):
            self.scrape.add(name, value, self.monitor, **labels)

    def _labels(self, new: tuple[str, ...], legacy: str) -> tuple[str, ...]:
        return new if self.new else tuple(legacy.split())


def in_bytes(mib: Value) -> Value:
    return lambda step: None if (value := mib(step)) is None else value * MIB


CHAT = Pod("team-a", "chat-7d9f-abcde", "gpu-1", deployment("chat"))
EMBED = Pod("team-a", "embed-0", "gpu-1", (("StatefulSet", "embed"),))
PAIR = Pod("team-b", "pair-7d9f-xyz", "gpu-1", deployment("pair"), containers=("main", "side"))


def hami_new() -> Scrape:
    """New names, honor_labels off: one that may shrink, one opted out, one pod of two GPU containers."""
    scrape = Scrape(cluster="hami-new", prometheus="monitoring/k8s")
    node = Hami(scrape, "gpu-1", ("GPU-a1", A100, 81_920), new=True)
    node.card()
    for pod in (CHAT, EMBED, PAIR):
        kube_state(scrape, pod)
    advice = {"namespace": "team-a", "pod": "embed-0", "uid": EMBED.uid, "annotation_egpu_io_advice": "off"}
    scrape.add("kube_pod_annotations", always(1), KSM, **advice)
    node.given(CHAT, 0, 40_960, 50)
    node.used(CHAT, "server", 40_960, memory_mib=busy_mornings(6144, 8192), core_percent=busy_mornings(5, 20))
    node.given(EMBED, 0, 16_384, 30)
    node.used(EMBED, "server", 16_384, memory_mib=busy_mornings(512, 1024), core_percent=busy_mornings(1, 2))
    for index, container in enumerate(PAIR.containers):
        node.given(PAIR, index, 4096, 10)
        node.used(PAIR, container, 4096, memory_mib=busy_mornings(1000, 1200), core_percent=busy_mornings(1, 9))
    return scrape


QUIET = Pod("ns", "quiet-7d9f-1", "gpu-2", deployment("quiet"))
UNLIMITED = Pod("ns", "unlimited-7d9f-1", "gpu-2", deployment("unlimited"))
LOST = Pod("ns", "lost-7d9f-1", "gpu-3", deployment("lost"))


def hami_legacy() -> Scrape:
    """Legacy names: a container that never used CUDA, one without a compute limit, one whose node's monitor is dead."""
    scrape = Scrape(cluster="hami-old")
    node = Hami(scrape, "gpu-2", ("GPU-b1", A10, 24_576), new=False)
    dead = Hami(scrape, "gpu-3", ("GPU-b2", A10, 24_576), new=False)
    node.card()
    dead.card(heard=False)
    for pod in (QUIET, UNLIMITED, LOST):
        kube_state(scrape, pod)
    node.given(QUIET, 0, 8192, 30)
    node.given(UNLIMITED, 0, 8192, 0)
    # Without a compute limit HAMi-core does not look at the use and the monitor says 0 (HAMi issue 1864).
    node.used(UNLIMITED, "server", 8192, memory_mib=busy_mornings(5000, 6144), core_percent=always(0))
    dead.given(LOST, 0, 8192, 30)
    return scrape


WHISPER = Pod("ml", "whisper-7d9f-1", "g1", deployment("whisper"))
NIGHTLY = Pod("ml", "nightly-2-x", "g1", (("Job", "nightly-2"), ("CronJob", "nightly")))
SLICE_ONE = Pod("ml", "slice-one-7d9f-1", "g2", deployment("slice-one"))
SLICE_TWO = Pod("ml", "slice-two-7d9f-1", "g2", deployment("slice-two"))
SHARER_A = Pod("ml", "sharer-a-7d9f-1", "g2", deployment("sharer-a"))
SHARER_B = Pod("ml", "sharer-b-7d9f-1", "g2", deployment("sharer-b"))
UNSEEN = Pod("ml", "unseen-7d9f-1", "g2", deployment("unseen"))

DCGM = {"job": "dcgm", "namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-q7", "container": "exporter"}
"""Labels of the exporter's own pod, with honor_labels off."""


def h100(number: int, *, instance: str = "") -> dict[str, str]:
    """Labels of a card, or of a MIG instance of it, in dcgm-exporter's order."""
    labels = {"gpu": str(number), "UUID": f"GPU-c{number}", "pci_bus_id": f"00000000:0{number}:00.0"}
    labels |= {"device": f"nvidia{number}", "modelName": H100, "DCGM_FI_DRIVER_VERSION": "550.90.07"}
    return labels | ({"GPU_I_PROFILE": "3g.40gb", "GPU_I_ID": instance} if instance else {})


def dcgm_card(scrape: Scrape, labels: dict[str, str], pod: Pod | None, values: dict[str, Value]) -> None:
    """The series of one card or instance, with the names of the pod that holds it."""
    names = {"namespace": pod.namespace, "pod": pod.name, "container": pod.containers[0]} if pod else {}
    for name, value in values.items():
        scrape.add(f"DCGM_FI_{name}", value, DCGM, **labels, **names)


def whole_card(used: Value, util_percent: Value) -> dict[str, Value]:
    """The default counters that matter, of a card of 81559 MiB."""
    return {
        "DEV_FB_USED": used,
        "DEV_FB_FREE": lambda step: 81_559 - 509 - (used(step) or 0),
        "DEV_FB_RESERVED": always(509),
        "DEV_GPU_UTIL": util_percent,
        "DEV_POWER_USAGE": with_blanks(always(300), every=7, blank=BLANK_INT32),
        "DEV_XID_ERRORS": always(0),
    }


def instance(used: Value, engine_ratio: Value) -> dict[str, Value]:
    """A MIG instance of 40448 MiB: no GPU_UTIL."""
    return {
        "DEV_FB_USED": used,
        "DEV_FB_FREE": lambda step: 40_448 - (used(step) or 0),
        "PROF_GR_ENGINE_ACTIVE": engine_ratio,
    }


def dcgm() -> Scrape:
    """One whole card a pod on g1 (old label ``Hostname``); MIG, time slicing and an unseen pod on g2 (``hostname``)."""
    scrape = Scrape(cluster="dcgm")
    off = {**KSM, "namespace": "monitoring", "pod": "kube-state-metrics-0", "container": "kube-state-metrics"}
    for pod in (WHISPER, NIGHTLY, SLICE_ONE, SLICE_TWO, SHARER_A, SHARER_B, UNSEEN):
        kube_state(scrape, pod, target=off)
    old, new = {"Hostname": "g1"}, {"hostname": "g2"}
    whisper = whole_card(busy_mornings(9000, 10_240), with_blanks(busy_mornings(3, 30), every=9, blank=BLANK_INT32))
    whisper["PROF_GR_ENGINE_ACTIVE"] = with_blanks(busy_mornings(0.02, 0.25), every=11, blank=BLANK_INT64)
    whisper["DEV_FB_USED"] = with_blanks(whisper["DEV_FB_USED"], every=13, blank=BLANK_INT64)
    dcgm_card(scrape, old | h100(1), WHISPER, whisper)
    dcgm_card(scrape, old | h100(2), None, whole_card(always(4), always(0)))
    dcgm_card(scrape, old | h100(3), NIGHTLY, whole_card(always(70_000), always(95)))
    one = instance(busy_mornings(2000, 3072), busy_mornings(0.1, 0.4))
    two = instance(busy_mornings(8000, 9216), busy_mornings(0.1, 0.2))
    dcgm_card(scrape, new | h100(4, instance="1"), SLICE_ONE, one)
    dcgm_card(scrape, new | h100(4, instance="2"), SLICE_TWO, two)
    for pod in (SHARER_A, SHARER_B):
        dcgm_card(scrape, new | h100(5), pod, whole_card(busy_mornings(100, 200), always(5)))
    return scrape


ASR = Pod("speech", "asr-7d9f-1", "v1", deployment("asr"))
BARE = Pod("speech", "bare", "v1")
TWIN_A, TWIN_B = Pod("x", "twin", "v1"), Pod("y", "twin", "v1")


def volcano() -> Scrape:
    """Volcano's scheduler names pods without a namespace; its monitor speaks HAMi's legacy names. No cluster label."""
    scrape = Scrape()
    node = Hami(scrape, "v1", ("GPU-d1", V100, 32_768), new=False)
    where = {"nodeid": "v1", "deviceuuid": "GPU-d1", "devicetype": f"NVIDIA-{V100}", "deviceidx": "0"}
    scrape.add("HostGPUMemoryUsage", always(5 * GIB), node.monitor, **where)
    of_card = {"devID": "GPU-d1", "NodeName": "v1"}
    target = {"job": "volcano-scheduler", "namespace": "volcano-system", "pod": "volcano-scheduler-0"}
    scrape.add("volcano_vgpu_device_memory_limit", always(32_768), target, **of_card)
    scrape.add("volcano_vgpu_device_shared_number", always(4), target, **of_card)
    for pod, memory_mib, cores in ((ASR, 10_240, 40), (BARE, 8192, 20), (TWIN_A, 2048, 10)):
        labels = {**of_card, "podName": pod.name}
        scrape.add("volcano_vgpu_device_memory_allocation_for_a_certain_pod", always(memory_mib), target, **labels)
        scrape.add("volcano_vgpu_device_core_allocation_for_a_certain_pod", always(cores), target, **labels)
    for pod in (ASR, BARE, TWIN_A, TWIN_B):
        kube_state(scrape, pod, resource="volcano_sh_vgpu_number")
    node.used(ASR, "server", 10_240, memory_mib=busy_mornings(1024, 1500), core_percent=busy_mornings(2, 10))
    return scrape


@dataclass(frozen=True)
class Seen:
    """What the chain made of the four clusters."""

    chain: Chain
    usage: list[Row]
    cards: list[Row]
    plan: Row

    def rows(self, cluster: str, pod: str, container: str = "server") -> list[Row]:
        """Rows of one container in time order."""
        key = (cluster, pod, container)
        found = [row for row in self.usage if (row["cluster"], row["pod"], row["container"]) == key]
        assert found, f"no rows of {key}"
        return sorted(found, key=lambda row: int(row["window_start_ms"]))

    def at(self, cluster: str, pod: str, container: str = "server", *, hour: int = 10, minute: int = 5) -> Row:
        """The row of one container in the window that begins at that time of the first day."""
        start_ms = START_MS + (hour * 60 + minute) * 60_000
        (row,) = (row for row in self.rows(cluster, pod, container) if row["window_start_ms"] == start_ms)
        return row


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    chain = Chain(tmp_path_factory.mktemp("foreign"))
    series = [each for make in (hami_new, hami_legacy, dcgm, volcano) for each in make().series]
    with chain.collector() as url:
        sent = send(url, series)
    summary = chain.roll_up("--sample-interval-seconds", 300)
    assert (summary["samples_read"], summary["corrupt"], summary["samples_late"]) == (sent, 0, 0)
    usage, cards = chain.rows("container_usage_5m"), chain.rows("gpu_usage_5m")
    return Seen(chain, usage, cards, chain.plan("--dialect", "hami"))


def values(row: Row, names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split()}


PAIR_RESIZES = {f"pair/{container}": ((4096, 100), (4096, 11)) for container in PAIR.containers}

WHO = "node gpu_uuid gpu_model namespace pod_uid workload_kind workload attribution"
QUOTA = "memory_quota_bytes core_quota_ratio"
USE = "memory_used_bytes_max core_used_ratio_max observed_ratio"


def test_hami_new_names_with_labels_that_clash(seen: Seen) -> None:
    row = seen.at("hami-new", CHAT.name)
    assert values(row, WHO) == {
        "node": "gpu-1",
        "gpu_uuid": "GPU-a1",
        "gpu_model": A100,
        "namespace": "team-a",
        "pod_uid": CHAT.uid,
        "workload_kind": "Deployment",
        "workload": "chat",
        "attribution": "attributed",
    }
    assert values(row, QUOTA) == {"memory_quota_bytes": 40 * GIB, "core_quota_ratio": 0.5}
    assert values(row, USE) == {"memory_used_bytes_max": 8 * GIB, "core_used_ratio_max": 0.2, "observed_ratio": 1.0}
    assert values(seen.at("hami-new", CHAT.name, hour=3), "memory_used_bytes_max") == {"memory_used_bytes_max": 6 * GIB}
    assert len(seen.rows("hami-new", CHAT.name)) == HOURS * STEPS_PER_HOUR
    (card,) = (row for row in seen.cards if row["cluster"] == "hami-new" and row["window_start_ms"] == START_MS)
    assert values(card, "node gpu_uuid gpu_model memory_total_bytes memory_allocated_bytes container_count") == {
        "node": "gpu-1",
        "gpu_uuid": "GPU-a1",
        "gpu_model": A100,
        "memory_total_bytes": 80 * GIB,
        "memory_allocated_bytes": (40 + 16 + 4 + 4) * GIB,
        "container_count": 4,
    }


def test_opt_out_by_annotation_and_owner_without_replica_set(seen: Seen) -> None:
    row = seen.at("hami-new", EMBED.name)
    assert values(row, "workload_kind workload advice") == {
        "workload_kind": "StatefulSet",
        "workload": "embed",
        "advice": "off",
    }
    assert values(seen.at("hami-new", CHAT.name), "advice") == {"advice": ""}


def test_container_index_of_hami_scheduler_is_no_name(seen: Seen) -> None:
    """The monitor names both containers of the pod, the scheduler says 0 and 1: joined by no guess."""
    for container in PAIR.containers:
        row = seen.at("hami-new", PAIR.name, container)
        assert row["attribution"] == "attributed"
        assert values(row, "memory_quota_bytes memory_used_bytes_max") == {
            "memory_quota_bytes": 4 * GIB,
            "memory_used_bytes_max": 1200 * MIB,
        }
    for index in ("#0", "#1"):
        row = seen.at("hami-new", PAIR.name, index)
        assert row["attribution"] == "several GPU containers in the pod, and the scheduler names none"
        assert row["memory_used_bytes_max"] is None


def test_silence_of_hami_monitor_is_zero_only_where_it_was_heard(seen: Seen) -> None:
    quiet = seen.at("hami-old", QUIET.name)
    assert values(quiet, USE) == {"memory_used_bytes_max": 0.0, "core_used_ratio_max": 0.0, "observed_ratio": 1.0}
    assert values(quiet, QUOTA) == {"memory_quota_bytes": 8 * GIB, "core_quota_ratio": 0.3}
    assert values(quiet, "container gpu_model workload attribution") == {
        "container": "server",
        "gpu_model": A10,
        "workload": "quiet",
        "attribution": "attributed",
    }
    lost = seen.at("hami-old", LOST.name)
    assert lost["gpu_model"] == A10
    assert values(lost, USE) == {"memory_used_bytes_max": None, "core_used_ratio_max": None, "observed_ratio": 0.0}
    assert values(lost, QUOTA) == {"memory_quota_bytes": 8 * GIB, "core_quota_ratio": 0.3}


def test_compute_use_without_a_compute_limit_is_not_observed(seen: Seen) -> None:
    row = seen.at("hami-old", UNLIMITED.name)
    assert values(row, USE) == {"memory_used_bytes_max": 6 * GIB, "core_used_ratio_max": None, "observed_ratio": 1.0}
    assert values(row, QUOTA) == {"memory_quota_bytes": 8 * GIB, "core_quota_ratio": 1.0}


def test_dcgm_whole_cards(seen: Seen) -> None:
    row = seen.at("dcgm", WHISPER.name)
    assert values(row, WHO) == {
        "node": "g1",
        "gpu_uuid": "GPU-c1",
        "gpu_model": H100,
        "namespace": "ml",
        "pod_uid": WHISPER.uid,
        "workload_kind": "Deployment",
        "workload": "whisper",
        "attribution": "attributed",
    }
    assert values(row, QUOTA) == {"memory_quota_bytes": 81_559 * MIB, "core_quota_ratio": 1.0}
    # GPU_UTIL says 30 %, GR_ENGINE_ACTIVE 0.25: the greater counts.
    assert values(row, USE) == {"memory_used_bytes_max": 10 * GIB, "core_used_ratio_max": 0.3, "observed_ratio": 1.0}
    assert values(seen.at("dcgm", NIGHTLY.name), "workload_kind workload") == {
        "workload_kind": "CronJob",
        "workload": "nightly",
    }


def test_dcgm_blank_values_are_no_values(seen: Seen) -> None:
    # Step 99 is a blank of both compute fields, 130 one of the memory, 126 one of the power.
    compute = seen.at("dcgm", WHISPER.name, hour=8, minute=15)
    assert values(compute, USE) == {
        "memory_used_bytes_max": 9000 * MIB,
        "core_used_ratio_max": None,
        "observed_ratio": 1.0,
    }
    memory = seen.at("dcgm", WHISPER.name, hour=10, minute=50)
    assert values(memory, USE) == {"memory_used_bytes_max": None, "core_used_ratio_max": 0.3, "observed_ratio": 0.0}
    power = {row["window_start_ms"]: row["power_watts_mean"] for row in seen.cards if row["gpu_uuid"] == "GPU-c1"}
    assert (power[START_MS + 126 * STEP_MS], power[START_MS + 127 * STEP_MS]) == (None, 300.0)


def test_dcgm_instances_of_a_partitioned_card_are_cards(seen: Seen) -> None:
    for pod, uuid, mib, core in ((SLICE_ONE, "MIG-GPU-c4/1", 3072, 0.4), (SLICE_TWO, "MIG-GPU-c4/2", 9216, 0.2)):
        row = seen.at("dcgm", pod.name)
        assert values(row, f"node gpu_uuid gpu_model attribution {QUOTA} {USE}") == {
            "node": "g2",
            "gpu_uuid": uuid,
            "gpu_model": f"{H100} MIG 3g.40gb",
            "attribution": "attributed",
            "memory_quota_bytes": 40_448 * MIB,
            "core_quota_ratio": 1.0,
            "memory_used_bytes_max": mib * MIB,
            "core_used_ratio_max": core,
            "observed_ratio": 1.0,
        }


def test_dcgm_use_that_is_nobodys(seen: Seen) -> None:
    """A card in time slices, a pod the exporter never named, and a card without a pod."""
    for pod in (SHARER_A, SHARER_B):
        row = seen.at("dcgm", pod.name)
        assert row["attribution"] == "card shared, no use per container"
        assert values(row, USE) == {"memory_used_bytes_max": None, "core_used_ratio_max": None, "observed_ratio": 0.0}
    unseen = seen.at("dcgm", UNSEEN.name)
    assert unseen["attribution"] == "card not known"
    assert values(unseen, USE) == {"memory_used_bytes_max": None, "core_used_ratio_max": None, "observed_ratio": 0.0}
    assert {row["gpu_uuid"] for row in seen.usage if row["cluster"] == "dcgm"} == {
        *("", "GPU-c1", "GPU-c3", "MIG-GPU-c4/1", "MIG-GPU-c4/2", "GPU-c5")
    }
    idle = [row for row in seen.cards if row["gpu_uuid"] == "GPU-c2"]
    assert len(idle) == HOURS * STEPS_PER_HOUR
    assert values(idle[0], "node memory_used_bytes_max container_count") == {
        "node": "g1",
        "memory_used_bytes_max": 4 * MIB,
        "container_count": 0,
    }


def test_volcano_names_pods_without_their_namespace(seen: Seen) -> None:
    row = seen.at("default", ASR.name)
    assert values(row, f"{WHO} {QUOTA} {USE}") == {
        "node": "v1",
        "gpu_uuid": "GPU-d1",
        "gpu_model": V100,
        "namespace": "speech",
        "pod_uid": ASR.uid,
        "workload_kind": "Deployment",
        "workload": "asr",
        "attribution": "attributed",
        "memory_quota_bytes": 10 * GIB,
        "core_quota_ratio": 0.4,
        "memory_used_bytes_max": 1500 * MIB,
        "core_used_ratio_max": 0.1,
        "observed_ratio": 1.0,
    }
    bare = seen.at("default", BARE.name)
    assert values(bare, f"namespace workload_kind workload {QUOTA} {USE}") == {
        "namespace": "speech",
        "workload_kind": "Pod",
        "workload": "bare",
        "memory_quota_bytes": 8 * GIB,
        "core_quota_ratio": 0.2,
        "memory_used_bytes_max": 0.0,
        "core_used_ratio_max": 0.0,
        "observed_ratio": 1.0,
    }
    twin = seen.at("default", "twin", "")
    assert values(twin, "namespace attribution memory_used_bytes_max") == {
        "namespace": "",
        "attribution": "several pods of that name on the node",
        "memory_used_bytes_max": None,
    }


def test_plan_resizes_what_is_idle_and_nothing_else(seen: Seen) -> None:
    """(memory MiB, compute %) before and after."""
    found = {
        resize["workload"]["name"] + "/" + resize["workload"]["container"]: (
            (resize["before"]["memory_mib"], resize["before"]["core_percent"]),
            (resize["after"]["memory_mib"], resize["after"]["core_percent"]),
        )
        for resize in seen.plan["resizes"]
    }
    assert found == {
        "chat/server": ((40_960, 50), (27_136, 23)),  # 3.25 x 8192 + 512; 1.15 x 20
        "quiet/server": ((8192, 30), (1024, 5)),  # never used: the floors
        "whisper/server": ((81_559, 100), (33_792, 35)),  # 3.25 x 10240 + 512; 1.15 x 30 = 34.5
        "slice-one/server": ((40_448, 100), (10_496, 46)),  # 3.25 x 3072 + 512; 1.15 x 40
        "slice-two/server": ((40_448, 100), (30_464, 23)),  # 3.25 x 9216 + 512; 1.15 x 20
        "asr/server": ((10_240, 40), (5440, 12)),  # 3.25 x 1500 + 512 = 5387, in steps of 64; 1.15 x 10
        "bare/server": ((8192, 20), (1024, 5)),
        **PAIR_RESIZES,
    }


def test_plan_refuses_with_the_reason(seen: Seen) -> None:
    reasons = {
        refusal["workload"]["name"]: refusal["reason"]
        for refusal in seen.plan["refusals"]
        if refusal["finding"] == "idle_quota"
    }
    assert reasons == {
        "embed": "opted out of advice",
        "lost": "history 0 h < 3 d",
        "nightly": "constant at 86% of quota: pre-allocating framework, its memory use tells nothing",
    }


def test_plan_does_not_speak_of_what_is_not_attributed(seen: Seen) -> None:
    text = str(seen.plan)
    assert [name for name in ("sharer-a", "sharer-b", "unseen", "twin", "#0") if name in text] == []


MANIFEST = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {namespace}
spec:
  template:
    spec:
      containers:
        - name: server
          image: example/{name}:1  # the image
          resources:
            limits:
              nvidia.com/gpu: 1
{limits}"""

LIMITS = "              nvidia.com/gpumem: {memory}\n              nvidia.com/gpucores: {cores}  # percent\n"

DIFF = """diff --git a/apps/chat.yaml b/apps/chat.yaml
--- a/apps/chat.yaml
+++ b/apps/chat.yaml
@@ -12,5 +12,5 @@
           resources:
             limits:
               nvidia.com/gpu: 1
-              nvidia.com/gpumem: 40960
-              nvidia.com/gpucores: 50  # percent
+              nvidia.com/gpumem: 27136
+              nvidia.com/gpucores: 23  # percent
diff --git a/apps/quiet.yaml b/apps/quiet.yaml
--- a/apps/quiet.yaml
+++ b/apps/quiet.yaml
@@ -12,5 +12,5 @@
           resources:
             limits:
               nvidia.com/gpu: 1
-              nvidia.com/gpumem: 8192
-              nvidia.com/gpucores: 30  # percent
+              nvidia.com/gpumem: 1024
+              nvidia.com/gpucores: 5  # percent
diff --git a/apps/whisper.yaml b/apps/whisper.yaml
--- a/apps/whisper.yaml
+++ b/apps/whisper.yaml
@@ -12,3 +12,5 @@
           resources:
             limits:
               nvidia.com/gpu: 1
+              nvidia.com/gpumem: 33792
+              nvidia.com/gpucores: 35
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with HAMi manifests of three advised workloads and of the one that opted out."""
    apps = tmp_path / "repository" / "apps"
    apps.mkdir(parents=True)
    for pod, name, memory, cores in (
        (CHAT, "chat", 40_960, 50),
        (QUIET, "quiet", 8192, 30),
        (WHISPER, "whisper", 0, 0),
        (EMBED, "embed", 16_384, 30),
    ):
        limits = LIMITS.format(memory=memory, cores=cores) if memory else ""
        (apps / f"{name}.yaml").write_text(MANIFEST.format(name=name, namespace=pod.namespace, limits=limits))
    git(apps.parent, "init", "-q", "-b", "main")
    git(apps.parent, "add", ".")
    git(apps.parent, "commit", "-q", "-m", "manifests")
    return apps.parent


def git(folder: Path, *arguments: str) -> str:
    """Output of one git command."""
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    done = subprocess.run(("git", "-C", folder, *who, *arguments), check=True, capture_output=True, text=True)
    return done.stdout


def test_apply_changes_the_lines_of_hami_and_names_what_it_did_not_find(seen: Seen, checkout: Path) -> None:
    arguments = ("apply", "--warehouse", seen.chain.warehouse, "--manifests", checkout, "--dialect", "hami")
    shown = seen.chain.run("egpu-advisor", *arguments, code=3)
    assert shown.stdout == DIFF
    missing = [line.split(": ")[1] for line in shown.stderr.splitlines() if line.startswith("not found: ")]
    assert missing == [
        "ml/Deployment/slice-one/server",
        "ml/Deployment/slice-two/server",
        "speech/Deployment/asr/server",
        "speech/Pod/bare/server",
        "team-b/Deployment/pair/main",
        "team-b/Deployment/pair/side",
    ]
    assert git(checkout, "branch", "--format=%(refname:short)").split() == ["main"]

    seen.chain.run("egpu-advisor", *arguments, "--no-dry-run", "--branch", "advice", code=3)
    assert git(checkout, "diff", "main", "advice", "--numstat").split() == [
        *("2", "2", "apps/chat.yaml"),
        *("2", "2", "apps/quiet.yaml"),
        *("2", "0", "apps/whisper.yaml"),
    ]
    assert git(checkout, "rev-list", "--count", "main..advice").strip() == "3"


def test_apply_ends_with_0_when_everything_was_found(seen: Seen, checkout: Path) -> None:
    arguments = ("apply", "--warehouse", seen.chain.warehouse, "--manifests", checkout, "--dialect", "hami")
    done = seen.chain.run("egpu-advisor", *arguments, "--namespace", "team-a", code=0)
    assert done.stdout.count("diff --git") == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("plan ")
    assert ": nothing was written; --no-dry-run commits to egpu/plan-" in line
