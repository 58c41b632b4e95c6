"""The fixtures of the system tests, for the budgets too."""

from __future__ import annotations

from runs import demo_pod, runner

__all__ = ["demo_pod", "runner"]
