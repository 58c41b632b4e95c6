"""Every file call has a handler that says which call it is."""

from __future__ import annotations

import inspect

from mirrord_trace.syscalls.files.rows import HANDLERS, X86_64_ONLY


def test_handlers_are_generators_and_name_their_man_page() -> None:
    pages = {"newfstatat": "fstatat"}
    for name, handler in HANDLERS.items():
        assert inspect.isgeneratorfunction(handler), name
        documentation = inspect.getdoc(handler) or ""
        assert documentation.startswith(f"{pages.get(name, name)}(2)"), name


def test_each_call_has_its_own_handler() -> None:
    assert len(set(HANDLERS.values())) == len(HANDLERS)
    assert set(HANDLERS) > X86_64_ONLY
