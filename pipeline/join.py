"""Which row a container's series belong to: missing labels completed from what the hour knows, or why not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.pods import ContainerKey, Knowledge, PodName

CONTAINER_UNKNOWN: Final = "container name not known"
CONTAINER_AMBIGUOUS: Final = "several GPU containers in the pod, and the scheduler names none"
POD_UNKNOWN: Final = "pod not known on the node"
POD_AMBIGUOUS: Final = "several pods of that name on the node"
CARD_UNKNOWN: Final = "card not known"
CARD_SHARED: Final = "card shared, no use per container"
"""Reasons in the column ``attribution``; few, so that a report can count them."""


class RowKey(NamedTuple):
    """Key of a row of container_usage_5m, without its window."""

    cluster: str
    node: str
    gpu_uuid: str
    namespace: str
    pod: str
    pod_uid: str
    container: str

    @property
    def pod_name(self) -> PodName:
        """The row's pod."""
        return PodName(self.cluster, self.namespace, self.pod)

    @property
    def card(self) -> tuple[str, str, str]:
        """The row's card, as a key of gpu_usage_5m; the uuid is empty when the card is not known."""
        return (self.cluster, self.node, self.gpu_uuid)


class AskedContainer(NamedTuple):
    """A container of which only kube-state-metrics says that it asked for GPUs."""

    pod: PodName
    pod_uid: str
    container: str


@dataclass(frozen=True, slots=True)
class Attribution:
    """Rows in key order, for each the reason why it is not attributed (empty = it is), and who belongs to which."""

    rows: tuple[RowKey, ...]
    reasons: tuple[str, ...]
    row_of_container: dict[ContainerKey, int]
    row_of_asked: dict[AskedContainer, int]


def _namespace(key: ContainerKey, node: str, knowledge: Knowledge) -> tuple[str, str]:
    """Namespace and reason. Volcano names a pod without it: joined when the node has one pod of that name."""
    if key.namespace:
        return key.namespace, ""
    known = knowledge.namespaces(key.cluster, node, key.pod)
    if len(known) == 1:
        return next(iter(known)), ""
    return "", POD_AMBIGUOUS if known else POD_UNKNOWN


def _container(key: ContainerKey, pod: PodName, knowledge: Knowledge) -> tuple[str, str]:
    """Container and reason. A scheduler's index is no name: joined when the pod has one GPU container."""
    if key.container:
        return key.container, ""
    names = knowledge.containers(pod)
    if len(names) == 1 and len(knowledge.indexes(pod)) <= 1:
        return next(iter(names)), ""
    placeholder = f"#{key.container_index}" if key.container_index else ""
    return placeholder, CONTAINER_AMBIGUOUS if names else CONTAINER_UNKNOWN


def resolve(key: ContainerKey, knowledge: Knowledge) -> tuple[RowKey, str]:
    """The row of one container's labels, and the reason why it is not attributed (empty = it is)."""
    node = key.node or knowledge.node_of_card(key.cluster, key.gpu_uuid)
    namespace, pod_reason = _namespace(key, node, knowledge)
    pod = PodName(key.cluster, namespace, key.pod)
    node = node or knowledge.node_of_pod(pod)
    uid = key.pod_uid or (knowledge.uid(pod) if not pod_reason else "")
    container, container_reason = _container(key, pod, knowledge)
    card_reason = "" if key.gpu_uuid else CARD_UNKNOWN
    row = RowKey(key.cluster, node, key.gpu_uuid, namespace, key.pod, uid, container)
    return row, pod_reason or container_reason or card_reason


def attribute(
    containers: Iterable[ContainerKey], asked: Iterable[AskedContainer], *, knowledge: Knowledge
) -> Attribution:
    """Rows of an hour from the containers that have series and those that only asked for GPUs."""
    reasons: dict[RowKey, str] = {}
    key_of: dict[ContainerKey, RowKey] = {}
    for key in containers:
        row, reason = resolve(key, knowledge)
        key_of[key] = row
        # One sender that says enough is enough.
        reasons[row] = min(reason, reasons.get(row, reason))
    named = {(row.pod_name, row.container) for row in reasons}
    unnamed = {row.pod_name for row, reason in reasons.items() if reason}
    key_of_asked: dict[AskedContainer, RowKey] = {}
    for each in asked:
        pod = each.pod
        # A pod of which some rows could not be named may already hold this container.
        if (pod, each.container) in named or pod in unnamed:
            continue
        node = knowledge.node_of_pod(pod)
        row = RowKey(pod.cluster, node, "", pod.namespace, pod.pod, each.pod_uid or knowledge.uid(pod), each.container)
        key_of_asked[each] = row
        reasons[row] = CARD_UNKNOWN
    rows = tuple(sorted(reasons))
    number = {row: index for index, row in enumerate(rows)}
    return Attribution(
        rows,
        tuple(reasons[row] for row in rows),
        {key: number[row] for key, row in key_of.items()},
        {each: number[row] for each, row in key_of_asked.items()},
    )
