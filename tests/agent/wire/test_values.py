from __future__ import annotations

from dataclasses import dataclass

import pytest
from mirrord_trace.agent.wire.values import MESSAGES, Address, Message, message


def test_a_number_belongs_to_one_message() -> None:
    taken = min(MESSAGES)

    @dataclass(frozen=True)
    class Another(Message):
        peer: Address

    with pytest.raises(ValueError, match=f"number {taken} is taken by {MESSAGES[taken].__name__}"):
        message(taken)(Another)
    assert MESSAGES[taken] is not Another
