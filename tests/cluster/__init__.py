"""A real one-node Kubernetes for the tests: ``python3 -m tests.cluster up``."""
