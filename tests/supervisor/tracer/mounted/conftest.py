"""Lets the tests here say `from pod import ...`; they need a mount of their own, which takes root."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
