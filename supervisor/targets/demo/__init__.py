"""The embedded pod of `-t demo`: namespaces, files and services of this machine, without root or a cluster."""
