"""`python -m benchmarks [stops | network] [its options]`, with tables; stops if nothing is named."""

from __future__ import annotations

import sys

from . import network, stops

ALL = {"stops": stops.main, "network": network.main}

chosen = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in ALL else "stops"
ALL[chosen]()
