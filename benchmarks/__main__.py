"""`python -m benchmarks`: all of them, with tables."""

from __future__ import annotations

from . import stops

stops.main()
