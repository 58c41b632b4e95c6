"""Failures as types, and the statuses they end the tool with."""

from __future__ import annotations

from mirrord_trace.supervisor import errors


def test_a_usage_error_is_one_line_and_a_status() -> None:
    error = errors.UsageError("no such pod: x; try mirrord-trace ls", 3)
    assert (error.text, error.exit_status, str(error)) == ("no such pod: x; try mirrord-trace ls", 3, error.text)
    assert errors.UsageError("x").exit_status == errors.EXIT_OWN_FAILURE


def test_statuses_are_those_of_env_and_timeout() -> None:
    statuses = (errors.EXIT_USAGE, errors.EXIT_OWN_FAILURE, errors.EXIT_NOT_EXECUTABLE, errors.EXIT_NOT_FOUND)
    assert statuses == (2, 125, 126, 127)


def test_none_is_another() -> None:
    kinds = (errors.TraceeGone, errors.UsageError, errors.InternalError)
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)
