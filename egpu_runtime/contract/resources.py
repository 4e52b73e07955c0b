"""Resource names and annotations of Kubernetes objects, ours and the dialects we read and write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

DialectName = Literal["egpu", "hami"]

GPU: Final = "egpu.io/gpu"
"""Number of GPU slices a container asks for."""

GPU_MEMORY: Final = "egpu.io/gpu-memory"
"""Memory per card, MiB."""

GPU_MEMORY_PERCENTAGE: Final = "egpu.io/gpu-memory-percentage"
"""Memory per card, percent of the card, 1-100."""

GPU_CORES: Final = "egpu.io/gpu-cores"
"""Compute per card, percent of the card, 1-100."""

PRIORITY: Final = "egpu.io/priority"
"""0 = high, 1 = low."""

PRIORITY_HIGH: Final = 0
PRIORITY_LOW: Final = 1

ANNOTATION_OVERSUBSCRIPTION_GROUP: Final = "egpu.io/oversubscription-group"
"""Members of one group may share a card beyond its memory and its compute quotas; nobody else joins them beyond it."""

ANNOTATION_ADVICE: Final = "egpu.io/advice"
"""``off`` takes the workload out of every advice."""

ADVICE_OFF: Final = "off"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one GPU sharing system writes a request: resource keys, their units, the group annotation.

    ``memory`` is in MiB per card, ``memory_percentage`` and ``cores`` in percent of a card.
    ``oversubscription_group`` is empty where the system has no such thing.
    """

    name: DialectName
    count: str
    memory: str
    memory_percentage: str
    cores: str
    priority: str
    oversubscription_group: str


DIALECTS: Final[Mapping[DialectName, Dialect]] = {
    "egpu": Dialect(
        "egpu",
        count=GPU,
        memory=GPU_MEMORY,
        memory_percentage=GPU_MEMORY_PERCENTAGE,
        cores=GPU_CORES,
        priority=PRIORITY,
        oversubscription_group=ANNOTATION_OVERSUBSCRIPTION_GROUP,
    ),
    "hami": Dialect(
        "hami",
        count="nvidia.com/gpu",
        memory="nvidia.com/gpumem",
        memory_percentage="nvidia.com/gpumem-percentage",
        cores="nvidia.com/gpucores",
        priority="nvidia.com/priority",
        oversubscription_group="",
    ),
}
"""Dialects by name; HAMi's names as its chart sets them by default (charts/hami/values.yaml)."""

GPU_RESOURCES_OF_KUBE_STATE: Final = frozenset({"egpu_io_gpu", "nvidia_com_gpu", "volcano_sh_vgpu_number"})
"""Values of kube-state-metrics' ``resource`` label that make a container a GPU container."""
