from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.config.target import DemoSpec, PodSpec, ProcessSpec, TargetSpec, parse_target
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("demo", DemoSpec()),
        ("pid/1", ProcessSpec(1)),
        ("pid/4194304", ProcessSpec(4194304)),
        ("pod/web-0", PodSpec("web-0")),
        ("pod/web.a/container/app", PodSpec("web.a", "app")),
    ],
)
def test_targets(text: str, target: TargetSpec) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployment/web", "deployment is not supported yet"),
        ("deploy/web/container/x", "deploy is not supported yet"),
        ("targetless", "targetless is not supported yet"),
        ("ssh://me@host", "ssh:// is not supported yet"),
        ("docker/web", "docker is not supported yet"),
        ("web", r"did you mean pod/web\?"),
        ("pods/web", r"did you mean pod\?"),
        ("node/web", "is not understood"),
        ("", "the target is empty"),
        ("pid/", "positive number"),
        ("pid/0", "positive number"),
        ("pid/-1", "positive number"),
        ("pid/1x", "positive number"),
        ("pid/٣", "positive number"),
        ("pod/", "no Kubernetes name"),
        ("pod/Web", "no Kubernetes name"),
        ("pod/web\n", "no Kubernetes name"),
        ("pod/web/container/", "no Kubernetes name"),
        ("pod/web/app", "pod/NAME/container/NAME"),
        ("pod/web/container", "pod/NAME/container/NAME"),
        ("pod/web/container/a/b", "pod/NAME/container/NAME"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        parse_target(text)
    assert refused.value.exit_status == EXIT_USAGE
    assert "\n" not in refused.value.text


@given(st.text() | st.text().map(lambda rest: "pod/" + rest) | st.text().map(lambda rest: "pid/" + rest))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    with suppress(UsageError):
        parse_target(text)
