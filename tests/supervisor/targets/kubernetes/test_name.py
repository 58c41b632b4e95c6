from __future__ import annotations

import pytest
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.supervisor.targets.kubernetes.name import PodName, parse


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pod/web", PodName("web")),
        ("pods/web-0.a", PodName("web-0.a")),
        ("po/web/container/app", PodName("web", "app")),
    ],
)
def test_targets(text: str, name: PodName) -> None:
    assert parse(text) == name


@pytest.mark.parametrize(
    "text", ["pod", "pod/", "pod/web/app", "pod/web/container/", "pod/Web", "pod/a/b/c", "deploy/web", "", "pod/a/../b"]
)
def test_anything_else_shows_the_right_form(text: str) -> None:
    with pytest.raises(UsageError, match="pod/NAME") as error:
        parse(text)
    assert error.value.exit_status == EXIT_USAGE


def test_a_name_is_shown_as_it_was_written() -> None:
    assert str(PodName("web")) == "pod/web"
    assert str(PodName("web", "app")) == "pod/web/container/app"
