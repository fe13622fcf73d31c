"""One asynchronous Kubernetes client for both programs: auth, transport, list and watch, apply, lease."""
