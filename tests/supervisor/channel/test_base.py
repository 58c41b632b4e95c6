from __future__ import annotations

from mirrord_trace.supervisor.channel.base import Channel, LastWords
from mirrord_trace.supervisor.channel.local import LocalChannel


def test_the_local_channel_is_one() -> None:
    channel: Channel = LocalChannel(b"s" * 32)
    assert not channel.resumable


def test_a_channel_may_hear_last_words() -> None:
    assert isinstance(LocalChannel(b"s" * 32), LastWords)
    assert not isinstance(object(), LastWords)
