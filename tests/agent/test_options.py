from __future__ import annotations

import dataclasses

from mirrord_trace.agent.options import SECRET_BYTES, Options


def test_options_survive_the_way():
    options = Options(pid=7, container_id="ab" * 32, target_is_init=True, lease_s=1, startup_timeout_s=2, log_level=10)
    options = dataclasses.replace(options, holder="eve@laptop", nodes=("10.0.0.1", "fd00::1"))
    assert Options.decode(options.encode()) == options


def test_every_agent_has_a_secret_of_its_own_that_is_not_printed():
    first, second = Options(), Options()
    assert first.secret != second.secret
    assert len(first.secret) == SECRET_BYTES
    assert first.secret.hex() not in repr(first)
    assert repr(first.secret) not in repr(first)
