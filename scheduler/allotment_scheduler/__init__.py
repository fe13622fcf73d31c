"""The scheduler: places every tenant pod by hierarchical weighted Dominant Resource Fairness."""
