"""Who is served next: exact dominant shares, limits, and the tenant tree as heaps."""
