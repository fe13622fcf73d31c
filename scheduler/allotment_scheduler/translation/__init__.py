"""From Kubernetes objects to the core's values: the one place that knows both vocabularies.

Live, objects come typed from watch streams; offline, from manifests through the same types. So what a field means is
decided once, here, and `allot simulate` cannot disagree with the scheduler.

Nothing here talks to anything or keeps state beyond caches of parsed text.
"""
