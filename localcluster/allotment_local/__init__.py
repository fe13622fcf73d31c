"""A real Kubernetes control plane on one machine, as plain processes, without a container engine."""
