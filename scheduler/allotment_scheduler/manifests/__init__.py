"""Manifests: what `kubectl get … -o yaml` prints, and what people write for `kubectl apply`, read into events.

How it thinks: files become documents (`documents`), documents what an API server would have stored of them (`stored`,
`typed`), and these events (`conversion`). Of which kinds, `kinds` says. What is wrong on the way is told by file,
document and field (`faults`, `checks`), what is doubtful as a warning (`doubts`).

What others would add live, is added here: scheduler names, requests and priorities (`admission`), the pods of workloads
whose templates are there (`workloads`), claims and their volumes (`claims`). What an edit leaves, `edits` says.

Invariants: whatever the bytes, reading ends in events or in a `ManifestError`, in time and depth bounded by their
length. Objects become events in the order in which they stand; that order breaks ties of creation time.

It must never leave something out in silence: kinds that are not read are counted, and what probably is a mistake is a
warning.
"""

from allotment_scheduler.manifests.conversion import Manifests
from allotment_scheduler.manifests.documents import Document, read_documents
from allotment_scheduler.manifests.faults import ManifestError

__all__ = ["Document", "ManifestError", "Manifests", "read_documents"]
