"""Interning: equal scheduling specs are one class, equal labels in a namespace one label set.

Whatever is computed per pod elsewhere is computed per class here: thousands of pods of one Job cost one.

Nothing is kept that nobody uses: classes and label sets are referred to weakly, and go with the last pod, row or queue
that refers to them. A Job's own labels are gone soon after its pods. Ids are given out in order of first sight and
never a second time, so an id that somebody still remembers means nothing else later on. They are no indexes: tables by
id would grow for ever.

What one class asks for is met in every array over all classes: it is bounded just above `LARGEST`, where a request is
refused. What nobody offers is one column for all (`resources.NOWHERE`) until somebody does: then the layout is stale,
and before anything is counted anew the classes learn of it.
"""

from collections.abc import Callable, Iterable
from itertools import count
from weakref import WeakSet, WeakValueDictionary

import numpy as np
import numpy.typing as npt

from allotment_scheduler.core.objects.attachments import DEVICES, ClaimName
from allotment_scheduler.core.objects.nodes import IntVector
from allotment_scheduler.core.objects.pods import ClassId, LabelSet, PodClass, SchedulingSpec
from allotment_scheduler.core.objects.resources import LARGEST, NOWHERE, Amounts, Column, Resources, without_pods


class Interning:
    """Every class of pods and every set of labels that anybody refers to, by id, in order of their ids."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.classes: WeakValueDictionary[int, PodClass] = WeakValueDictionary()
        self._classes: WeakValueDictionary[tuple[SchedulingSpec, str], PodClass] = WeakValueDictionary()
        self.labelsets: WeakValueDictionary[int, LabelSet] = WeakValueDictionary()
        self._labelsets: WeakValueDictionary[tuple[str, tuple[tuple[str, str], ...]], LabelSet] = WeakValueDictionary()
        self._naming: WeakValueDictionary[ClaimName, WeakSet[PodClass]] = WeakValueDictionary()
        """The classes of pods that name a claim; kept by these classes themselves."""
        self._class_ids, self._labelset_ids = count(), count()
        self._known = 0
        """So many resources had columns when `learn` was last of use."""

    def klass(self, spec: SchedulingSpec, namespace: str) -> PodClass:
        """The class of a scheduling spec. The namespace is part of it only where the spec refers to its own."""
        local = namespace if spec.minds_other_pods or spec.claims else ""
        found = self._classes.get((spec, local))
        if found is None:
            amounts, room = self._request(spec)
            minds = spec.minds_other_pods
            holds = bool(spec.terms or spec.host_ports)
            by_labels = any(term.match_label_keys or term.mismatch_label_keys for term in spec.terms)
            number = ClassId(next(self._class_ids))
            found = PodClass(number, spec, local, amounts, without_pods(amounts), room, minds, holds, by_labels)
            if spec.claims:
                found.named = tuple(self._naming.setdefault((local, name), WeakSet()) for name in spec.claims)
                for classes in found.named:
                    classes.add(found)
            self.classes[number] = found
            self._classes[spec, local] = found
        return found

    def naming(self, claims: Iterable[ClaimName]) -> list[PodClass]:
        """The classes of pods that name some of these claims, in order of their ids."""
        found = {klass for claim in claims for klass in list(self._naming.get(claim, ()))}
        return sorted(found, key=lambda klass: klass.id)

    def _request(self, spec: SchedulingSpec) -> tuple[Amounts, Amounts]:
        """What a class asks for, and what of it must be free on a node."""
        asked = [*((name, min(amount, LARGEST + 1)) for name, amount in spec.requests), ("pods", 1)]
        amounts = self.resources.sparse(asked)
        if not spec.devices:
            return amounts, amounts
        return amounts, self.resources.sparse(each for each in asked if not each[0].endswith(DEVICES))

    def learn(self) -> None:
        """Resources may have got columns that nobody offered before: classes that ask for them are told."""
        nowhere = self.resources.columns.get(NOWHERE)
        if nowhere is None or self._known == len(self.resources.names):
            return
        self._known = len(self.resources.names)
        for klass in list(self.classes.values()):
            if any(column == nowhere for column, _ in klass.amounts):
                klass.amounts, klass.room = self._request(klass.spec)
                klass.asks = without_pods(klass.amounts)

    def amounts_of(self, klass: npt.NDArray[np.int32]) -> Callable[[Column], IntVector]:
        """What pods of some classes, given by id, hold of a resource."""
        classes = list(self.classes.values())
        which = np.searchsorted(np.array([each.id for each in classes], dtype=np.int32), klass)
        amounts = [dict(each.amounts) for each in classes]
        return lambda column: np.array([held.get(column, 0) for held in amounts], dtype=np.int64)[which]

    def labelset(self, namespace: str, labels: tuple[tuple[str, str], ...]) -> LabelSet:
        """The interned labels of pods in a namespace."""
        found = self._labelsets.get((namespace, labels))
        if found is None:
            found = LabelSet(next(self._labelset_ids), namespace, dict(labels))
            self.labelsets[found.id] = self._labelsets[namespace, labels] = found
        return found
