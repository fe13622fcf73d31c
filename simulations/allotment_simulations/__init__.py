"""Stand-ins for what tests and the demo cannot have."""
