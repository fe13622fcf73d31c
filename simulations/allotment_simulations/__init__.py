"""The scheduler core on a virtual clock."""
