from __future__ import annotations

import os
import threading

import pytest
from mirrord_trace.agent.tree import calls, identity

CAP_DAC_OVERRIDE, CAP_CHOWN = 1 << 1, 1 << 0


def on_thread(work):
    results = []

    def run():
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def test_a_process_is_read_as_it_is():
    found = identity.read_credentials(os.getpid())
    assert (found.fsuid, found.fsgid) == (os.geteuid(), os.getegid())
    assert set(found.groups) == set(os.getgroups())
    assert found.effective == calls.thread_capabilities()[0]
    assert found.inner_pid > 0
    assert identity.read_credentials("thread-self").effective == found.effective
    with pytest.raises(OSError):
        identity.read_credentials(2**22 + 1)


def test_ones_own_changes_nothing():
    own = identity.read_credentials(os.getpid())

    def assume():
        identity.assume(own)
        return identity.read_credentials("thread-self")

    after = on_thread(assume)
    assert (after.fsuid, after.fsgid, after.groups, after.effective) == (own.fsuid, own.fsgid, own.groups, own.effective)


def test_what_may_not_be_set_is_left_alone():
    if os.geteuid() == 0:
        pytest.skip("root may set everything: this needs an ordinary user")

    def assume():
        identity.assume(identity.Credentials(0, 0, (0,), 2**40, 1))
        return identity.read_credentials("thread-self")

    after = on_thread(assume)
    assert (after.fsuid, after.effective) == (os.geteuid(), 0)


def assumed(work, effective=0, groups=(55, 56)):
    def run():
        identity.assume(identity.Credentials(1234, 99, groups, effective, 1))
        return work()

    return on_thread(run)


@pytest.fixture
def folder(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else: this needs root")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(parent, 0o755)
    inner = tmp_path / "inner"
    inner.mkdir()
    inner.chmod(0o777)
    return inner


def test_one_thread_is_the_target_and_the_process_is_not(folder):
    found = assumed(lambda: identity.read_credentials("thread-self"))
    assert (found.fsuid, found.fsgid, found.groups, found.effective) == (1234, 99, (55, 56), 0)
    own = identity.read_credentials(os.getpid())
    assert (own.fsuid, own.fsgid) == (0, 0)
    assert own.effective != 0


def test_what_is_made_belongs_to_the_target(folder):
    assumed(lambda: (folder / "file").write_bytes(b"x"))
    found = os.stat(folder / "file")
    assert (found.st_uid, found.st_gid) == (1234, 99)


def test_rights_are_the_targets(folder):
    secret = folder / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    with pytest.raises(PermissionError):
        assumed(secret.read_bytes)
    assert assumed(secret.read_bytes, effective=CAP_DAC_OVERRIDE) == b"x"
    os.chown(secret, 0, 55)
    secret.chmod(0o640)
    assert assumed(secret.read_bytes) == b"x"
    with pytest.raises(PermissionError):
        assumed(secret.read_bytes, groups=())
    with pytest.raises(PermissionError):
        assumed(lambda: os.chown(secret, 1234, 99), effective=CAP_DAC_OVERRIDE)
    assumed(lambda: os.chown(secret, 1234, 99), effective=CAP_CHOWN)
    assert assumed(secret.read_bytes) == b"x"


def test_a_path_descriptor_can_be_opened_again_but_only_with_the_targets_rights(folder):
    secret = folder / "file"
    secret.write_bytes(b"x")
    fd = os.open(secret, os.O_PATH)

    def read():
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        try:
            return os.read(again, 10)
        finally:
            os.close(again)

    assert assumed(read) == b"x"
    secret.chmod(0o600)
    with pytest.raises(PermissionError):
        assumed(read)
    os.close(fd)
