"""TARGET, as given to -t and `target.path`: text -> what it names."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from ..errors import EXIT_USAGE, UsageError

FORMS = "demo, pid/N or pod/NAME[/container/NAME]"

# Kinds that mirrord or the plan of this tool knows; `deploy` and `po` are kubectl's short names.
_LATER = re.compile(
    r"(deployment|deploy|rollout|job|cronjob|statefulset|service|svc|replicaset|daemonset|label|docker)/|"
    r"(targetless)\Z|(ssh://)"
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


@dataclass(frozen=True)
class DemoSpec:
    """The embedded pod."""


@dataclass(frozen=True)
class ProcessSpec:
    """A running process of this machine."""

    pid: int


@dataclass(frozen=True)
class PodSpec:
    """A pod of the cluster; `container` None: chosen when the pod is known."""

    name: str
    container: str | None = None


TargetSpec = DemoSpec | ProcessSpec | PodSpec


def parse_target(text: str) -> TargetSpec:
    """The target that `text` names; UsageError if none, or one that is not supported yet."""
    kind, _, rest = text.partition("/")
    if text == "demo":
        return DemoSpec()
    if kind == "pid":
        return _process(text, rest)
    if kind == "pod":
        return _pod(text, rest)
    later = _LATER.match(text)
    if later is not None:
        shown = later.group(later.lastindex or 0)
        raise _refused(f"target {text!r}: {shown} is not supported yet; give {FORMS}")
    raise _unknown(text, kind, rest)


def _refused(text: str) -> UsageError:
    return UsageError(text, EXIT_USAGE)


def _unknown(text: str, kind: str, rest: str) -> UsageError:
    if not text:
        return _refused(f"the target is empty; give {FORMS}")
    if not rest and _NAME.match(text):
        return _refused(f"target {text!r} has no kind; did you mean pod/{text}? ({FORMS})")
    near = difflib.get_close_matches(kind, ["demo", "pid", "pod"], 1)
    hint = f"did you mean {near[0]}?" if near else "give"
    return _refused(f"target {text!r} is not understood; {hint} {'(' + FORMS + ')' if near else FORMS}")


def _process(text: str, rest: str) -> ProcessSpec:
    if not (rest.isascii() and rest.isdecimal() and len(rest) <= 10 and int(rest) > 0):
        raise _refused(f"target {text!r}: a process id is a positive number, as in pid/1234")
    return ProcessSpec(int(rest))


def _pod(text: str, rest: str) -> PodSpec:
    parts = rest.split("/")
    if len(parts) == 3 and parts[1] == "container":
        name, container = parts[0], parts[2]
    elif len(parts) == 1:
        name, container = parts[0], None
    else:
        raise _refused(f"target {text!r} is not understood; a pod is pod/NAME or pod/NAME/container/NAME")
    for given in (name, container):
        if given is not None and not _NAME.match(given):
            raise _refused(f"target {text!r}: {given!r} is no Kubernetes name (lower case letters, digits, '-', '.')")
    return PodSpec(name, container)
