"""Exporters of other systems, and ours: how their labels read, and their series as rows that stand for ours.

These rows and those of ``metrics`` are one table; ``docs/reference/metrics.md`` is generated from both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from egpu_runtime.contract.metrics import (
    CONTAINER_CORE_USED,
    CONTAINER_MEMORY_QUOTA,
    CONTAINER_MEMORY_USED,
    GPU_MEMORY_BANDWIDTH,
    GPU_MEMORY_FREE,
    GPU_MEMORY_RESERVED,
    GPU_MEMORY_TOTAL,
    GPU_MEMORY_USED,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_UTILIZATION,
    OWNER_INFO,
    POD_ADVICE_INFO,
    POD_GPU_CONTAINER_INFO,
    POD_INFO,
    SCHEDULER_CONTAINER_CORE_ALLOCATED,
    SCHEDULER_CONTAINER_MEMORY_ALLOCATED,
    SCHEDULER_GPU_CORE_ALLOCATED,
    SCHEDULER_GPU_MEMORY_ALLOCATED,
    SCHEDULER_GPU_SHARED_CONTAINERS,
)
from egpu_runtime.contract.units import MIB

Silence = Literal["zero", "unobserved"]
"""What it means that an exporter names a container, or its node, and gives no use for the container."""


@dataclass(frozen=True, slots=True)
class Source:
    """One exporter: how its labels read, and what it means when it is silent about a container.

    ``labels`` maps our label to the exporter's names for it; the first one present and non-empty wins, and a
    label that is not listed reads under its own name. ``silence`` is ``zero`` where the exporter leaves out
    containers that never used the card (HAMi issue 281), ``unobserved`` where it always reports.
    """

    name: str
    labels: Mapping[str, tuple[str, ...]]
    help: str
    silence: Silence = "unobserved"


_EXPORTED: Final = {
    "namespace": ("exported_namespace", "namespace"),
    "pod": ("exported_pod", "pod"),
    "container": ("exported_container", "container"),
    "node": ("exported_node", "node"),
}
"""Prometheus renames a target's own labels so when honor_labels is off."""

AGENT: Final = Source("egpu-agent", _EXPORTED, "Our node agent; reports every allocated container, also at 0.")
SCHEDULER: Final = Source("egpu-scheduler", _EXPORTED, "Our scheduler's ledger of what was allocated.")
DCGM: Final = Source(
    "dcgm-exporter",
    {
        **_EXPORTED,
        "node": ("hostname", "Hostname", "node"),
        "gpu_uuid": ("UUID", "gpu_uuid"),
        "gpu_model": ("modelName", "model_name"),
        "pod_uid": ("exported_pod_uid", "pod_uid"),
    },
    "NVIDIA's exporter; one value a card, with a pod's name where the card has one pod.",
)
HAMI_MONITOR: Final = Source(
    "hami-monitor",
    {
        "namespace": ("exported_namespace", "podnamespace", "namespace"),
        "pod": ("exported_pod", "podname", "pod"),
        "container": ("exported_container", "ctrname", "container"),
        "node": ("nodeid", "nodename", "exported_node", "node"),
        "gpu_uuid": ("deviceuuid", "device_uuid"),
        "gpu_model": ("devicetype", "device_type"),
    },
    "HAMi's vGPUmonitor and volcano-vgpu's, new and legacy names; silent about a container until it uses CUDA.",
    silence="zero",
)
HAMI_SCHEDULER: Final = Source(
    "hami-scheduler",
    {
        "namespace": ("exported_namespace", "podnamespace", "namespace"),
        "pod": ("exported_pod", "podname", "pod"),
        "container": (),
        "container_index": ("containeridx", "container_index"),
        "node": ("nodename", "nodeid", "exported_node", "node"),
        "gpu_uuid": ("deviceuuid", "device_uuid"),
        "gpu_model": ("devicetype", "device_type"),
    },
    "HAMi's scheduler; names a container by its index in the pod.",
)
VOLCANO: Final = Source(
    "volcano-scheduler",
    {
        "namespace": (),
        "pod": ("podName",),
        "container": (),
        "node": ("NodeName",),
        "gpu_uuid": ("devID",),
    },
    "Volcano's deviceshare plugin; names a pod without its namespace.",
)
KUBE_STATE: Final = Source(
    "kube-state-metrics",
    {
        **_EXPORTED,
        "pod_uid": ("uid",),
        "advice": ("annotation_egpu_io_advice", "label_egpu_io_advice"),
    },
    "Owners, uids, opt-outs and GPU requests of pods.",
)

SOURCES: Final = (AGENT, SCHEDULER, DCGM, HAMI_MONITOR, HAMI_SCHEDULER, VOLCANO, KUBE_STATE)


@dataclass(frozen=True, slots=True)
class Alias:
    """A foreign series read as one of ours.

    ``metric`` = our series, value = theirs x ``scale``. ``requires`` names foreign labels (any one present and
    non-empty) without which the row does not apply; ``equals`` fixes labels to a value. ``sets`` gives our
    labels from theirs where the source's map does not say it (owner rows). ``valid_max`` drops values at or above
    it, in the foreign unit (DCGM's blank sentinels).
    """

    name: str
    source: Source
    metric: str
    scale: float = 1.0
    requires: tuple[str, ...] = ()
    equals: tuple[tuple[str, str], ...] = ()
    sets: tuple[tuple[str, str], ...] = ()
    valid_max: float = float("inf")


_POD = ("exported_pod", "pod")
_BLANK_PERCENT = 101.0
_BLANK_MIB = float(0x7FFFFFF0)
_PERCENT = 0.01


def _dcgm(field: str, card_metric: str, container_metric: str, scale: float, valid_max: float) -> tuple[Alias, ...]:
    name = f"DCGM_FI_{field}"
    rows = [Alias(name, DCGM, card_metric, scale, valid_max=valid_max)]
    if container_metric:
        rows.append(Alias(name, DCGM, container_metric, scale, requires=_POD, valid_max=valid_max))
    return tuple(rows)


def _hami(source: Source, metric: str, scale: float, *names: str) -> tuple[Alias, ...]:
    return tuple(Alias(name, source, metric, scale) for name in names)


ALIASES: Final[tuple[Alias, ...]] = (
    *_dcgm("DEV_FB_USED", GPU_MEMORY_USED.name, CONTAINER_MEMORY_USED.name, MIB, _BLANK_MIB),
    *_dcgm("DEV_FB_FREE", GPU_MEMORY_FREE.name, "", MIB, _BLANK_MIB),
    *_dcgm("DEV_FB_RESERVED", GPU_MEMORY_RESERVED.name, "", MIB, _BLANK_MIB),
    *_dcgm("DEV_GPU_UTIL", GPU_UTILIZATION.name, CONTAINER_CORE_USED.name, _PERCENT, _BLANK_PERCENT),
    *_dcgm("PROF_GR_ENGINE_ACTIVE", GPU_UTILIZATION.name, CONTAINER_CORE_USED.name, 1.0, 1.01),
    *_dcgm("DEV_MEM_COPY_UTIL", GPU_MEMORY_BANDWIDTH.name, "", _PERCENT, _BLANK_PERCENT),
    *_dcgm("DEV_POWER_USAGE", GPU_POWER.name, "", 1.0, _BLANK_MIB),
    *_dcgm("DEV_GPU_TEMP", GPU_TEMPERATURE.name, "", 1.0, _BLANK_MIB),
    *_hami(HAMI_MONITOR, GPU_MEMORY_USED.name, 1.0, "hami_host_gpu_memory_used_bytes", "HostGPUMemoryUsage"),
    *_hami(HAMI_MONITOR, GPU_UTILIZATION.name, _PERCENT, "hami_host_gpu_utilization_ratio", "HostCoreUtilization"),
    *_hami(
        HAMI_MONITOR,
        CONTAINER_MEMORY_USED.name,
        1.0,
        "hami_vgpu_memory_used_bytes",
        "vGPU_device_memory_usage_in_bytes",
    ),
    *_hami(
        HAMI_MONITOR,
        CONTAINER_MEMORY_QUOTA.name,
        1.0,
        "hami_vgpu_memory_limit_bytes",
        "vGPU_device_memory_limit_in_bytes",
    ),
    *_hami(
        HAMI_MONITOR,
        CONTAINER_CORE_USED.name,
        _PERCENT,
        "hami_container_device_utilization_ratio",
        "Device_utilization_desc_of_container",
    ),
    *_hami(HAMI_SCHEDULER, GPU_MEMORY_TOTAL.name, 1.0, "hami_gpu_memory_limit_bytes", "GPUDeviceMemoryLimit"),
    *_hami(
        HAMI_SCHEDULER,
        SCHEDULER_GPU_MEMORY_ALLOCATED.name,
        1.0,
        "hami_gpu_memory_allocated_bytes",
        "GPUDeviceMemoryAllocated",
    ),
    *_hami(
        HAMI_SCHEDULER,
        SCHEDULER_GPU_CORE_ALLOCATED.name,
        _PERCENT,
        "hami_gpu_core_allocated_ratio",
        "GPUDeviceCoreAllocated",
    ),
    *_hami(HAMI_SCHEDULER, SCHEDULER_GPU_SHARED_CONTAINERS.name, 1.0, "hami_gpu_shared_count", "GPUDeviceSharedNum"),
    *_hami(
        HAMI_SCHEDULER,
        SCHEDULER_CONTAINER_MEMORY_ALLOCATED.name,
        1.0,
        "hami_vgpu_memory_allocated_bytes",
        "vGPUMemoryAllocated",
    ),
    *_hami(
        HAMI_SCHEDULER,
        SCHEDULER_CONTAINER_CORE_ALLOCATED.name,
        _PERCENT,
        "hami_vgpu_core_allocated_ratio",
        "vGPUCoreAllocated",
    ),
    Alias("volcano_vgpu_device_memory_limit", VOLCANO, GPU_MEMORY_TOTAL.name, MIB),
    Alias("volcano_vgpu_device_allocated_memory", VOLCANO, SCHEDULER_GPU_MEMORY_ALLOCATED.name, MIB),
    Alias("volcano_vgpu_device_allocated_cores", VOLCANO, SCHEDULER_GPU_CORE_ALLOCATED.name, _PERCENT),
    Alias("volcano_vgpu_device_shared_number", VOLCANO, SCHEDULER_GPU_SHARED_CONTAINERS.name),
    Alias(
        "volcano_vgpu_device_memory_allocation_for_a_certain_pod",
        VOLCANO,
        SCHEDULER_CONTAINER_MEMORY_ALLOCATED.name,
        MIB,
    ),
    Alias(
        "volcano_vgpu_device_core_allocation_for_a_certain_pod",
        VOLCANO,
        SCHEDULER_CONTAINER_CORE_ALLOCATED.name,
        _PERCENT,
    ),
    Alias("kube_pod_info", KUBE_STATE, POD_INFO.name),
    Alias("kube_pod_owner", KUBE_STATE, OWNER_INFO.name, equals=(("kind", "Pod"),), sets=(("name", "pod"),)),
    Alias(
        "kube_replicaset_owner",
        KUBE_STATE,
        OWNER_INFO.name,
        equals=(("kind", "ReplicaSet"),),
        sets=(("name", "replicaset"),),
    ),
    Alias("kube_job_owner", KUBE_STATE, OWNER_INFO.name, equals=(("kind", "Job"),), sets=(("name", "job_name"),)),
    Alias("kube_pod_annotations", KUBE_STATE, POD_ADVICE_INFO.name, requires=("annotation_egpu_io_advice",)),
    Alias("kube_pod_labels", KUBE_STATE, POD_ADVICE_INFO.name, requires=("label_egpu_io_advice",)),
    Alias("kube_pod_container_resource_limits", KUBE_STATE, POD_GPU_CONTAINER_INFO.name, requires=("resource",)),
)
"""Foreign series, in the order of the reference page. One name may stand in several rows (card and container)."""
