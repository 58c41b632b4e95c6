"""Flags, MIRRORD_* variables and a mirrord configuration file -> one frozen `Config`."""
