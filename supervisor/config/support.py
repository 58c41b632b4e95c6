"""Keys of mirrord that this tool knows but does not act on: which are worth a line to the user.

Not listed here and not acted on either: keys about parts that this tool does not have (telemetry, session API,
internal proxy, macOS, the details of iptables, log formats), whose absence changes nothing for the program.
"""

from __future__ import annotations

from .overlays import lookup
from .schema import Tree

_NOTHING: tuple[object, ...] = (None, False, "", {}, [])

_LATER = {
    "experimental": "",
    "agent.annotations": "",
    "agent.labels": "",
    "agent.node_selector": "",
    "agent.priority_class": "",
    "agent.resources": "",
    "agent.security_context": "",
    "agent.service_account": "",
    "agent.tolerations": "",
    "agent.disabled_capabilities": "",
    "agent.dns": "",
    "agent.exclude_from_mesh": "",
    "agent.metrics": "",
    "feature.copy_target": "the target itself is used",
    "feature.db_branches": "",
    "feature.preview": "",
    "feature.split_queues": "",
}
_PAID = {
    "profile": "",
    "multi_cluster": "",
}


def unsupported(tree: Tree) -> list[str]:
    """One line for each key of `tree` that asks for something this tool does not do."""
    lines = []
    paid = "is a feature of mirrord's operator, not of this tool"
    for texts, what in ((_LATER, "is not supported yet"), (_PAID, paid)):
        for key, consequence in texts.items():
            value = lookup(tree, key)
            if _asks(value):
                lines.append(f"{key} {what}" + (f": {consequence}" if consequence else ""))
    if lookup(tree, "use_proxy") in (False, "false", "0"):
        lines.append("use_proxy is not supported yet: proxies set in the environment are used")
    if lookup(tree, "operator") is True:
        lines.append("operator: this tool works without one")
    return sorted(lines)


# {"enabled": false} and tables of nothing ask for nothing.
def _asks(value: object) -> bool:
    if isinstance(value, dict):
        return value.get("enabled") is not False and any(_asks(element) for element in value.values())
    return value not in _NOTHING
