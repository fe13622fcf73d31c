"""What is scheduled, as values and records: pods, nodes, tenants, units, devices, and what can happen to them."""
