"""Real nodes for the local cluster: kubelets, containers and volumes on this machine, in namespaces of their own."""
