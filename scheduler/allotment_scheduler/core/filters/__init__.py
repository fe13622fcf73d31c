"""Filters: which nodes could take a pod, with kube-scheduler's semantics."""
