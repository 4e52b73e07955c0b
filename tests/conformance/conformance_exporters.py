"""What the exporters of each dialect say of a cluster at one scrape: samples with the labels Prometheus would send.

Pure. Every series name of the contract occurs in one of them; a test holds that.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from conformance_pods import Card, Cluster, Pod

from egpu_runtime.contract import metrics

Labels = dict[str, str]
Point = tuple[Labels, float]
"""Labels with ``__name__``, value; the time is the scrape's."""

MIB = 1 << 20
BLANK = float(0x7FFFFFF0)
"""What DCGM gives for a field that it cannot read."""


@dataclass
class Moment:
    """One scrape of one cluster."""

    cluster: Cluster
    time_ms: int
    chance: random.Random

    def memory(self, card: Card) -> float:
        return float(self.chance.randint(0, card.memory_bytes // 4))

    def ratio(self) -> float:
        return self.chance.choice([0.0, self.chance.random(), self.chance.randint(0, 100) / 100])


def _named(name: str, labels: Mapping[str, str], value: float) -> Point:
    return {"__name__": name, **labels}, value


def _container_labels(pod: Pod, container: str, time_ms: int) -> Labels:
    card = pod.card(time_ms)
    return {
        "node": card.node,
        "gpu_uuid": card.uuid,
        "gpu_model": card.model,
        "namespace": pod.namespace,
        "pod": pod.name,
        "pod_uid": pod.uid,
        "container": container,
        "workload_kind": pod.kind,
        **pod.facts(time_ms),
    }


def ours(moment: Moment) -> Iterator[Point]:
    """Our agent and scheduler. The idle pod is known to the scheduler alone."""
    chance, time_ms = moment.chance, moment.time_ms
    for card in moment.cluster.cards:
        labels = {"node": card.node, "gpu_uuid": card.uuid, "gpu_model": card.model}
        for metric in metrics.METRICS:
            if metric.subject == "card":
                yield _named(metric.name, labels, _card_value(metric, card, moment))
    for pod in moment.cluster.alive(time_ms):
        for container in pod.containers:
            labels = _container_labels(pod, container, time_ms)
            for metric in metrics.METRICS:
                scheduler = metric.name.startswith("egpu_scheduler")
                if metric.subject != "container" or (pod.idle and not scheduler):
                    continue
                directions = ("in", "out") if metric is metrics.CONTAINER_SWAPPED else ("",)
                for direction in directions:
                    more = {"direction": direction} if direction else {}
                    value = _container_value(metric, pod, moment, part=container + direction)
                    yield _named(metric.name, {**labels, **more}, value)
    pod = chance.choice(moment.cluster.pods)
    where = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid}
    yield _named(metrics.POD_INFO.name, {**where, "node": pod.card(time_ms).node}, 1.0)
    yield _named(metrics.POD_ADVICE_INFO.name, {**where, "advice": chance.choice(["off", "on"])}, 1.0)
    yield _named(metrics.POD_GPU_CONTAINER_INFO.name, {**where, "container": pod.containers[0]}, 1.0)
    owner = {"namespace": pod.namespace, "kind": "Pod", "name": pod.name}
    yield _named(metrics.OWNER_INFO.name, {**owner, "owner_kind": pod.kind, "owner_name": pod.workload}, 1.0)


def _card_value(metric: metrics.Metric, card: Card, moment: Moment) -> float:
    if metric is metrics.GPU_MEMORY_TOTAL:
        return float(card.memory_bytes)
    match metric.unit:
        case "bytes":
            return moment.memory(card)
        case "ratio":
            return moment.ratio()
        case "info" | "bool" | "count":
            return 1.0
        case _:
            return moment.chance.uniform(30, 300)


def _container_value(metric: metrics.Metric, pod: Pod, moment: Moment, *, part: str) -> float:
    card = pod.card(moment.time_ms)
    if metric.kind == "counter":
        return pod.count(metric.name + part, moment.chance, most=15)
    if metric is metrics.CONTAINER_LAST_SUBMIT_TIMESTAMP:
        return moment.time_ms / 1000
    if "quota" in metric.name or "allocated" in metric.name:
        return float(card.memory_bytes // 4) if metric.unit == "bytes" else 0.25
    return moment.memory(card) if metric.unit == "bytes" else moment.ratio()


_DCGM: Mapping[str, Callable[[Moment, Card], float]] = {
    "DCGM_FI_DEV_FB_USED": lambda moment, card: moment.memory(card) // MIB,
    "DCGM_FI_DEV_FB_FREE": lambda moment, card: moment.memory(card) // MIB,
    "DCGM_FI_DEV_FB_RESERVED": lambda _, __: 512.0,
    "DCGM_FI_DEV_GPU_UTIL": lambda moment, _: float(moment.chance.randint(0, 100)),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": lambda moment, _: moment.ratio(),
    "DCGM_FI_DEV_MEM_COPY_UTIL": lambda moment, _: float(moment.chance.randint(0, 100)),
    "DCGM_FI_DEV_POWER_USAGE": lambda moment, _: moment.chance.uniform(30, 300),
    "DCGM_FI_DEV_GPU_TEMP": lambda moment, _: float(moment.chance.randint(20, 90)),
    "DCGM_FI_DEV_SM_CLOCK": lambda moment, _: float(moment.chance.randint(300, 1400)),
}
"""What dcgm-exporter gives of a card; the last one is read by nobody."""


def dcgm(moment: Moment) -> Iterator[Point]:
    """dcgm-exporter: a pod's labels on a card, several pods on a shared one, its own pod on an idle one, a MIG card."""
    own = {"pod": "dcgm-exporter-x", "namespace": "monitoring", "container": "exporter"}
    for index, card in enumerate(moment.cluster.cards):
        labels = {"UUID": card.uuid, "modelName": f"NVIDIA {card.model}", "gpu": str(index)}
        labels["Hostname" if index % 2 else "hostname"] = card.node
        pods = [pod for pod in moment.cluster.alive(moment.time_ms) if pod.card(moment.time_ms) is card]
        renamed = [_exported(pod) for pod in pods] if index < 2 else [_plain(pod) for pod in pods]
        instances = [{"GPU_I_PROFILE": "3g.20gb", "GPU_I_ID": str(i)} for i in (1, 2)] if index == 0 else [{}]
        for name, value_of in _DCGM.items():
            for instance in instances:
                value = BLANK if moment.chance.random() < 0.01 else value_of(moment, card)
                for pod in renamed or [{}]:
                    yield _named(name, {**own, **labels, **instance, **pod}, value)


def _exported(pod: Pod) -> Labels:
    return {
        "exported_namespace": pod.namespace,
        "exported_pod": pod.name,
        "exported_container": pod.containers[0],
        "exported_pod_uid": pod.uid,
    }


def _plain(pod: Pod) -> Labels:
    return {"namespace": pod.namespace, "pod": pod.name, "container": pod.containers[0]}


def hami(moment: Moment) -> Iterator[Point]:
    """HAMi under its new names."""
    for index, card in enumerate(moment.cluster.cards):
        host = {"node": card.node, "device_uuid": card.uuid, "device_index": str(index)}
        host["device_type"] = f"NVIDIA-{card.model}"
        yield _named("hami_host_gpu_memory_used_bytes", host, moment.memory(card))
        yield _named("hami_host_gpu_utilization_ratio", host, float(moment.chance.randint(0, 100)))
        yield _named("hami_gpu_memory_limit_bytes", host, float(card.memory_bytes))
        yield _named("hami_gpu_memory_allocated_bytes", host, float(card.memory_bytes // 2))
        yield _named("hami_gpu_core_allocated_ratio", host, 50.0)
        yield _named("hami_gpu_shared_count", host, 2.0)
    for pod in moment.cluster.alive(moment.time_ms):
        card = pod.card(moment.time_ms)
        for index, container in enumerate(pod.containers):
            where = {"namespace": pod.namespace, "pod": pod.name, "device_uuid": card.uuid}
            monitor = {**where, "container": container, "vdevice_index": "0", "node": card.node}
            scheduler = {**where, "container_index": str(index), "node": card.node}
            yield _named("hami_vgpu_memory_allocated_bytes", scheduler, float(card.memory_bytes // 4))
            yield _named("hami_vgpu_core_allocated_ratio", scheduler, 30.0)
            if not pod.idle:
                yield _named("hami_vgpu_memory_used_bytes", monitor, moment.memory(card))
                yield _named("hami_vgpu_memory_limit_bytes", monitor, float(card.memory_bytes // 4))
                utilization = float(moment.chance.randint(0, 100))
                yield _named("hami_container_device_utilization_ratio", monitor, utilization)


def hami_legacy(moment: Moment) -> Iterator[Point]:
    """HAMi under its legacy names; Prometheus put the monitor's own pod into ``pod``."""
    own = {"namespace": "hami-system", "pod": "monitor-x"}
    for index, card in enumerate(moment.cluster.cards):
        host = {**own, "nodeid": card.node, "deviceuuid": card.uuid, "deviceidx": str(index)}
        yield _named("GPUDeviceMemoryLimit", host, float(card.memory_bytes))
        yield _named("GPUDeviceMemoryAllocated", host, float(card.memory_bytes // 2))
        yield _named("GPUDeviceCoreAllocated", host, 50.0)
        yield _named("GPUDeviceSharedNum", host, 2.0)
        host["devicetype"] = f"NVIDIA-{card.model}"
        yield _named("HostGPUMemoryUsage", host, moment.memory(card))
        yield _named("HostCoreUtilization", host, float(moment.chance.randint(0, 100)))
    for pod in moment.cluster.alive(moment.time_ms):
        card = pod.card(moment.time_ms)
        for index, container in enumerate(pod.containers):
            where = {**own, "podnamespace": pod.namespace, "podname": pod.name, "deviceuuid": card.uuid}
            monitor = {**where, "ctrname": container, "vdeviceid": "0"}
            scheduler = {**where, "containeridx": str(index), "nodename": card.node}
            yield _named("vGPUMemoryAllocated", scheduler, float(card.memory_bytes // 4))
            yield _named("vGPUCoreAllocated", scheduler, 30.0)
            if not pod.idle:
                yield _named("vGPU_device_memory_usage_in_bytes", monitor, moment.memory(card))
                yield _named("vGPU_device_memory_limit_in_bytes", monitor, float(card.memory_bytes // 4))
                utilization = float(moment.chance.randint(0, 100))
                yield _named("Device_utilization_desc_of_container", monitor, utilization)


def volcano(moment: Moment) -> Iterator[Point]:
    """Volcano's deviceshare plugin, with the legacy monitor beside it."""
    for card in moment.cluster.cards:
        where = {"devID": card.uuid, "NodeName": card.node}
        yield _named("volcano_vgpu_device_memory_limit", where, float(card.memory_bytes // MIB))
        yield _named("volcano_vgpu_device_allocated_memory", where, float(card.memory_bytes // MIB // 2))
        yield _named("volcano_vgpu_device_allocated_cores", where, 50.0)
        yield _named("volcano_vgpu_device_shared_number", where, 2.0)
    for pod in moment.cluster.alive(moment.time_ms):
        card = pod.card(moment.time_ms)
        where = {"devID": card.uuid, "NodeName": card.node, "podName": pod.name}
        memory = float(card.memory_bytes // MIB // 4)
        yield _named("volcano_vgpu_device_memory_allocation_for_a_certain_pod", where, memory)
        yield _named("volcano_vgpu_device_core_allocation_for_a_certain_pod", where, 20.0)
        if not pod.idle:
            monitor = {"podnamespace": pod.namespace, "podname": pod.name, "deviceuuid": card.uuid}
            monitor["ctrname"] = pod.containers[0]
            yield _named("vGPU_device_memory_usage_in_bytes", monitor, moment.memory(card))


def kube_state(moment: Moment) -> Iterator[Point]:
    """kube-state-metrics: pods, their owners and owners' owners, opt-outs, GPU requests; one pod changes its owner."""
    late = moment.time_ms > (moment.cluster.start_ms + moment.cluster.end_ms) // 2
    for pod in moment.cluster.alive(moment.time_ms):
        where = {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid}
        yield _named("kube_pod_info", {**where, "node": pod.card(moment.time_ms).node}, 1.0)
        yield _named("kube_pod_status_phase", {**where, "phase": "Running"}, 1.0)
        for container in pod.containers:
            limits = {**where, "container": container, "resource": "nvidia_com_gpu", "unit": "integer"}
            yield _named("kube_pod_container_resource_limits", limits, 1.0)
            yield _named("kube_pod_container_resource_limits", {**limits, "resource": "cpu"}, 4.0)
        yield from _owners(pod, late=late)
        if pod.workload == "bare" and late:
            yield _named("kube_pod_annotations", {**where, "annotation_egpu_io_advice": "off"}, 1.0)
        if pod.workload == "ocr":
            yield _named("kube_pod_labels", {**where, "label_egpu_io_advice": "off" if late else "on"}, 1.0)


def _owners(pod: Pod, *, late: bool) -> Iterator[Point]:
    where = {"namespace": pod.namespace, "pod": pod.name}
    stem = pod.name.rsplit("-", 1)[0]
    match pod.kind:
        case "Deployment":
            owner = {"owner_kind": "ReplicaSet", "owner_name": stem, "owner_is_controller": "true"}
            yield _named("kube_pod_owner", {**where, **owner}, 1.0)
            of_set = {"namespace": pod.namespace, "replicaset": stem}
            yield _named(
                "kube_replicaset_owner", {**of_set, "owner_kind": "Deployment", "owner_name": pod.workload}, 1.0
            )
        case "CronJob":
            yield _named("kube_pod_owner", {**where, "owner_kind": "Job", "owner_name": stem}, 1.0)
            of_job = {"namespace": pod.namespace, "job_name": stem}
            yield _named("kube_job_owner", {**of_job, "owner_kind": "CronJob", "owner_name": pod.workload}, 1.0)
        case "Pod":
            yield _named("kube_pod_owner", {**where, "owner_kind": "<none>", "owner_name": "<none>"}, 1.0)
        case _:
            name = f"{pod.workload}-new" if late and pod.kind == "StatefulSet" else pod.workload
            yield _named("kube_pod_owner", {**where, "owner_kind": pod.kind, "owner_name": name}, 1.0)
            second = {"owner_kind": "Other", "owner_name": "other", "owner_is_controller": "false"}
            yield _named("kube_pod_owner", {**where, **second}, 1.0)


def noise(moment: Moment) -> Iterator[Point]:
    """Series that nobody reads."""
    for index, card in enumerate(moment.cluster.cards):
        yield _named("up", {"instance": card.node}, 1.0)
        yield _named("node_cpu_seconds_total", {"cpu": str(index), "mode": "idle"}, moment.chance.random())


DIALECTS: Mapping[str, tuple[Callable[[Moment], Iterator[Point]], ...]] = {
    "east": (ours, noise),
    "west": (dcgm, kube_state),
    "north": (hami, kube_state, noise),
    "south": (hami_legacy, kube_state),
    "": (volcano, kube_state),
}
"""What is scraped in each cluster; the last one carries no cluster label."""
