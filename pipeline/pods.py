"""What an hour's series say about pods and cards: uid, node, GPU containers, owner, opt-out; where each card sits.

Knowledge is of the whole hour. Where series disagree the one with the greatest sample time holds, and of equal times
the greatest text, so the order of arrival does not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from egpu_runtime.contract.metrics import OWNER_INFO, POD_ADVICE_INFO, POD_GPU_CONTAINER_INFO, POD_INFO
from pipeline.normalise import Series

OWNER_DEPTH_MAX: Final = 4
"""Owners followed upwards; Pod - ReplicaSet - Deployment - a custom controller is the longest chain seen."""

KIND_POD: Final = "Pod"
"""Workload kind of a pod that nobody owns."""


class ContainerKey(NamedTuple):
    """Labels of a container series as the sender gave them; empty = not given."""

    cluster: str
    node: str
    gpu_uuid: str
    namespace: str
    pod: str
    pod_uid: str
    container: str
    container_index: str


class PodName(NamedTuple):
    """A pod by name."""

    cluster: str
    namespace: str
    pod: str


@dataclass(slots=True)
class _Latest:
    """The value at the greatest time for each key."""

    values: dict[tuple[str, ...], tuple[int, str]] = field(default_factory=dict)

    def put(self, key: tuple[str, ...], time: int, value: str) -> None:
        if value and (time, value) > self.values.get(key, (-1, "")):
            self.values[key] = (time, value)

    def get(self, key: tuple[str, ...]) -> str:
        return self.values.get(key, (0, ""))[1]


@dataclass(slots=True)
class Knowledge:
    """Filled by :func:`learn`; every question has an empty answer when nothing is known."""

    _uid: _Latest = field(default_factory=_Latest)
    _node: _Latest = field(default_factory=_Latest)
    _advice: _Latest = field(default_factory=_Latest)
    _owner: dict[tuple[str, ...], tuple[int, tuple[str, str]]] = field(default_factory=dict)
    _card_node: _Latest = field(default_factory=_Latest)
    _card_model: _Latest = field(default_factory=_Latest)
    _containers: dict[PodName, set[str]] = field(default_factory=dict)
    _indexes: dict[PodName, set[str]] = field(default_factory=dict)
    _namespaces: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)
    _on_card: list[tuple[PodName, int, str]] = field(default_factory=list)

    def uid(self, pod: PodName) -> str:
        """The pod's uid."""
        return self._uid.get(pod)

    def node_of_pod(self, pod: PodName) -> str:
        """The node the pod runs on."""
        return self._node.get(pod)

    def node_of_card(self, cluster: str, gpu_uuid: str) -> str:
        """The node a card sits in."""
        return self._card_node.get((cluster, gpu_uuid))

    def model_of_card(self, cluster: str, gpu_uuid: str) -> str:
        """The model of a card."""
        return self._card_model.get((cluster, gpu_uuid))

    def advice(self, pod: PodName) -> str:
        """The pod's advice opt-out as its owner wrote it."""
        return self._advice.get(pod)

    def containers(self, pod: PodName) -> frozenset[str]:
        """Names of the pod's GPU containers."""
        return frozenset(self._containers.get(pod, ()))

    def indexes(self, pod: PodName) -> frozenset[str]:
        """Indexes by which a scheduler names containers of the pod."""
        return frozenset(self._indexes.get(pod, ()))

    def namespaces(self, cluster: str, node: str, pod: str) -> frozenset[str]:
        """Namespaces that have a pod of this name on the node."""
        return frozenset(self._namespaces.get((cluster, node, pod), ()))

    def workload(self, pod: PodName) -> tuple[str, str]:
        """(kind, name) of the topmost known owner, the pod itself when it has none."""
        found = (KIND_POD, pod.pod)
        for _ in range(OWNER_DEPTH_MAX):
            known = self._owner.get((pod.cluster, pod.namespace, *found))
            if known is None:
                break
            found = known[1]
        return found

    def learn_container(self, key: ContainerKey, time: int, model: str) -> None:
        """Take in one container's labels, last seen at ``time``."""
        self._card_node.put((key.cluster, key.gpu_uuid), time, key.node)
        self._card_model.put((key.cluster, key.gpu_uuid), time, model if key.gpu_uuid else "")
        if not key.namespace:
            return
        pod = PodName(key.cluster, key.namespace, key.pod)
        self._uid.put(pod, time, key.pod_uid)
        if key.node:
            self._node.put(pod, time, key.node)
        else:
            self._on_card.append((pod, time, key.gpu_uuid))
        if key.container:
            self._containers.setdefault(pod, set()).add(key.container)
        if key.container_index:
            self._indexes.setdefault(pod, set()).add(key.container_index)

    def learn_series(self, series: Series, time: int) -> None:
        """Take in a series about a card, a pod or an owner, last seen at ``time``."""
        match series.subject:
            case "card":
                cluster, node, gpu_uuid = series.key
                self._card_node.put((cluster, gpu_uuid), time, node)
                self._card_model.put((cluster, gpu_uuid), time, series.facts[0])
            case "pod":
                self._learn_pod(series, time)
            case "owner" if series.metric == OWNER_INFO.name:
                kind, name = series.facts
                fact = (time, (kind, name))
                self._owner[series.key] = max(fact, self._owner.get(series.key, fact))
            case _:
                pass

    def _learn_pod(self, series: Series, time: int) -> None:
        cluster, namespace, name, uid = series.key
        pod = PodName(cluster, namespace, name)
        self._uid.put(pod, time, uid)
        detail = series.facts[0]
        if series.metric == POD_INFO.name:
            self._node.put(pod, time, detail)
        elif series.metric == POD_ADVICE_INFO.name:
            self._advice.put(pod, time, detail)
        elif series.metric == POD_GPU_CONTAINER_INFO.name and detail:
            self._containers.setdefault(pod, set()).add(detail)

    def settle(self) -> None:
        """Derive nodes of pods from their cards, then namespaces of pod names; call once everything is learnt."""
        for pod, time, gpu_uuid in self._on_card:
            self._node.put(pod, time, self.node_of_card(pod.cluster, gpu_uuid))
        for cluster, namespace, name in self._node.values:
            node = self._node.get((cluster, namespace, name))
            self._namespaces.setdefault((cluster, node, name), set()).add(namespace)


def learn(series: Iterable[tuple[Series, int]]) -> Knowledge:
    """Knowledge from an hour's series, each with its greatest sample time (ms as the hour's grid counts)."""
    knowledge = Knowledge()
    seen: dict[tuple[ContainerKey, str], int] = {}
    for each, time in series:
        if each.subject == "container":
            # The same container is named by many series; it is looked at once.
            about = (ContainerKey(*each.key), each.facts[0])
            seen[about] = max(time, seen.get(about, -1))
        else:
            knowledge.learn_series(each, time)
    for (key, model), time in seen.items():
        knowledge.learn_container(key, time, model)
    knowledge.settle()
    return knowledge
