from __future__ import annotations

import pytest
from fakeapi import running_pod
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.kubernetes.containers import DEFAULT_CONTAINER, choose, names


def test_the_first_container_is_chosen_and_the_others_are_known() -> None:
    chosen = choose(running_pod("web", "app", "side"))
    assert (chosen.name, chosen.others, chosen.explicit) == ("app", ("side",), False)
    assert len(chosen.identifier) == 64


def test_mesh_sidecars_are_passed_over() -> None:
    assert choose(running_pod("web", "istio-proxy", "app")).name == "app"
    assert choose(running_pod("web", "linkerd-proxy")).name == "linkerd-proxy"


def test_the_annotation_decides() -> None:
    chosen = choose(running_pod("web", "app", "side", annotations={DEFAULT_CONTAINER: "side"}))
    assert (chosen.name, chosen.explicit) == ("side", True)
    assert choose(running_pod("web", "app", annotations={DEFAULT_CONTAINER: "gone"})).name == "app"


def test_the_user_decides_before_all() -> None:
    pod = running_pod("web", "app", "istio-proxy", annotations={DEFAULT_CONTAINER: "app"})
    assert choose(pod, "istio-proxy").name == "istio-proxy"


def test_an_unknown_container_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="it has: app, side"):
        choose(running_pod("web", "app", "side"), "nope")


def test_native_sidecars_are_targets_when_named() -> None:
    pod = running_pod("web", "app")
    pod["spec"]["initContainers"] = [{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}]
    pod["status"]["initContainerStatuses"] = [{"name": "proxy", "state": {"running": {}}, "containerID": "containerd://abc"}]
    assert names(pod) == ["app", "proxy"]
    assert choose(pod, "proxy").identifier == "abc"


def test_a_container_that_does_not_run_says_why() -> None:
    pod = running_pod("web", "app")
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    with pytest.raises(UsageError, match=r"does not run .*CrashLoopBackOff"):
        choose(pod)


def test_a_pod_that_is_not_scheduled() -> None:
    pod = running_pod("web", "app")
    pod["status"] = {"phase": "Pending"}
    with pytest.raises(UsageError, match=r"does not run .*Pending"):
        choose(pod)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_ended_pod(phase: str) -> None:
    pod = running_pod("web", "app")
    pod["status"]["phase"] = phase
    with pytest.raises(UsageError, match=f"has ended .{phase}"):
        choose(pod)


def test_a_pod_on_its_way_out() -> None:
    with pytest.raises(UsageError, match="being deleted"):
        choose(running_pod("web", "app", deletionTimestamp="2026-01-01T00:00:00Z"))
