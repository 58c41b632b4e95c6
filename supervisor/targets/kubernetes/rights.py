"""What the user may do in the cluster, by SelfSubjectAccessReview (every authenticated user may ask)."""

from __future__ import annotations

from dataclasses import dataclass

from .api import Api

_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """A verb on a resource of the core API group, "pods" or "pods/portforward"."""

    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


FIND_TARGET = (Right("get", "pods"), Right("list", "pods"))
CHANNEL = (Right("get", "pods/portforward"), Right("create", "pods/portforward"))
POD_AGENT = (Right("create", "pods"), Right("delete", "pods"), Right("get", "pods"))
EPHEMERAL_AGENT = (Right("patch", "pods/ephemeralcontainers"), Right("get", "pods"))
# Without `watch` the agent's state is asked for again and again.
DIAGNOSTICS = (Right("watch", "pods"), Right("get", "pods/log"), Right("list", "events"))


def allowed(api: Api, right: Right, namespace: str) -> bool:
    """Ask the API server whether we hold a right in a namespace."""
    resource, _, subresource = right.resource.partition("/")
    attributes = {"namespace": namespace, "verb": right.verb, "group": "", "resource": resource}
    if subresource:
        attributes["subresource"] = subresource
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((api.create(_PATH, review).get("status") or {}).get("allowed"))


def missing(api: Api, rights: tuple[Right, ...], namespace: str) -> tuple[Right, ...]:
    """Those of `rights` that we do not hold."""
    return tuple(right for right in rights if not allowed(api, right, namespace))
