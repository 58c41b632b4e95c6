"""Lets every test below this directory say `from rig import ...`, and `both_loops`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from loops import both_loops

__all__ = ["both_loops"]
