"""The second engine: seccomp user notification, seccomp_unotify(2), instead of ptrace(2). See docs/debugging.md."""
