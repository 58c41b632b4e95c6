"""Lets every test below this directory say `from notified import ...`, and `from rig import ...` as the tracer's tests.

And `both_loops`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tracer"))
sys.path.insert(0, str(Path(__file__).parent))

from loops import both_loops

__all__ = ["both_loops"]
