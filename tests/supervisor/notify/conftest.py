"""Lets every test below this directory say `from notified import ...`, and `from rig import ...` as the tracer's tests."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "tracer"):
    sys.path.insert(0, str(folder))
