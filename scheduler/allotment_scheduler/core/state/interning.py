"""Interning: equal scheduling specs are one class, equal labels in a namespace one label set.

Whatever is computed per pod elsewhere is computed per class here: thousands of pods of one Job cost one. Ids are given
out in order of first sight and never taken back: so what one class asks for is met in every array over all classes, and
is bounded just above `LARGEST`, where a request is refused.
"""

from allotment_scheduler.core.objects.attachments import DEVICES
from allotment_scheduler.core.objects.pods import ClassId, LabelSet, PodClass, SchedulingSpec
from allotment_scheduler.core.objects.resources import LARGEST, Resources, without_pods


class Interning:
    """Every class of pods and every set of labels seen so far, by id."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.classes: list[PodClass] = []
        self.labelsets: list[LabelSet] = []
        self._class_ids: dict[tuple[SchedulingSpec, str], PodClass] = {}
        self._labelset_ids: dict[tuple[str, tuple[tuple[str, str], ...]], LabelSet] = {}

    def klass(self, spec: SchedulingSpec, namespace: str) -> PodClass:
        """The class of a scheduling spec. The namespace is part of it only where the spec refers to its own."""
        local = namespace if spec.minds_other_pods or spec.claims else ""
        found = self._class_ids.get((spec, local))
        if found is None:
            requests = ((name, min(amount, LARGEST + 1)) for name, amount in spec.requests)
            amounts = self.resources.sparse((*requests, ("pods", 1)))
            minds = spec.minds_other_pods
            holds = bool(spec.terms or spec.host_ports)
            by_labels = any(term.match_label_keys or term.mismatch_label_keys for term in spec.terms)
            names = self.resources.names
            room = tuple(it for it in amounts if not names[it[0]].endswith(DEVICES)) if spec.devices else amounts
            found = PodClass(
                ClassId(len(self.classes)), spec, local, amounts, without_pods(amounts), room, minds, holds, by_labels
            )
            self.classes.append(found)
            self._class_ids[spec, local] = found
        return found

    def labelset(self, namespace: str, labels: tuple[tuple[str, str], ...]) -> LabelSet:
        """The interned labels of pods in a namespace."""
        found = self._labelset_ids.get((namespace, labels))
        if found is None:
            found = LabelSet(len(self.labelsets), namespace, dict(labels))
            self.labelsets.append(found)
            self._labelset_ids[namespace, labels] = found
        return found
