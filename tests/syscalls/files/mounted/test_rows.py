"""Every file call of the mounted tree has a handler that says which call it is, and a note."""

from __future__ import annotations

import inspect

from mirrord_trace.syscalls.files.mounted.rows import HANDLERS, LATER, NOTES


def test_handlers_are_generators_and_name_their_man_page() -> None:
    pages = {"newfstatat": "fstatat"}
    handlers = {**HANDLERS, **{name: handler for name, (handler, _) in LATER.items()}}
    for name, handler in handlers.items():
        assert inspect.isgeneratorfunction(handler), name
        assert (inspect.getdoc(handler) or "").startswith(f"{pages.get(name, name)}(2)"), name
    assert len(set(handlers.values())) == len(handlers)
    assert set(NOTES) == set(handlers)


def test_calls_on_descriptors_are_the_kernels() -> None:
    assert not {"fstat", "getdents", "getdents64", "read", "fchmod"} & set(HANDLERS)
