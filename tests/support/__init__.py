"""What tests and benchmarks share: private daemons in namespaces of their own, kernels, installer media."""
