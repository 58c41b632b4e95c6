"""`python -m benchmarks [stops | threads | programs | network | files] [its options]`: tables; stops if none is named."""

from __future__ import annotations

import importlib
import sys

ALL = ("stops", "threads", "programs", "network", "files")

chosen = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in ALL else "stops"
# Imported here: network needs what tests/cluster needs.
importlib.import_module(f".{chosen}", __package__).main()
