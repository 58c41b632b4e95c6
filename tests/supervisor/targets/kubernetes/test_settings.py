from __future__ import annotations

import dataclasses

import pytest
from mirrord_trace.supervisor.targets.kubernetes.settings import DEFAULT_IMAGE, AgentSettings, KubeSettings


def test_defaults_leave_the_choice_to_the_cluster() -> None:
    assert KubeSettings() == KubeSettings(None, None, None, False)
    assert AgentSettings().ephemeral is None
    assert AgentSettings().image == DEFAULT_IMAGE


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AgentSettings().image = "other"  # type: ignore[misc]
