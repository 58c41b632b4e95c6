"""The status of one pod as it changes, without blocking who waits for it.

A thread reads the watch, because the one who waits has something better to do than to block in it: the kubelet reports
a started container up to a second late, and until then only trying the agent's port tells. Where the `watch` verb is
not allowed the thread asks again and again. The thread has ended when `close` returns: fork(2) comes later.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

import urllib3

from .api import Api, ApiError, Watch

_ASK_AGAIN_S = 0.5
_WATCH_S = 300


class PodWatch:
    """Follows a pod from a known version of it."""

    def __init__(self, api: Api, pod: dict[str, Any]) -> None:
        self._api = api
        metadata = pod["metadata"]
        self._collection = f"/api/v1/namespaces/{metadata['namespace']}/pods"
        self._name = str(metadata["name"])
        self._version = str(metadata.get("resourceVersion") or "")
        self._changes: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="pod-watch", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> dict[str, Any] | None:
        """The newest state of the pod if it has changed within `timeout_s`; {} once it is gone."""
        try:
            newest = self._changes.get(timeout=timeout_s)
            while not self._changes.empty():
                newest = self._changes.get()
        except queue.Empty:
            return None
        return newest

    def close(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        with self._lock:
            if self._watch is not None:
                self._watch.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (ApiError, urllib3.exceptions.HTTPError, OSError, ValueError):
                self._ask()

    def _follow(self) -> None:
        watch = self._api.watch(
            self._collection,
            _WATCH_S,
            fieldSelector=f"metadata.name={self._name}",
            resourceVersion=self._version,
        )
        with self._lock:
            self._watch = watch
        if self._stop.is_set():
            watch.close()
        for event in watch:
            if event.get("type") == "DELETED":
                self._changes.put({})
            elif event.get("type") in ("ADDED", "MODIFIED"):
                self._version = str(event["object"]["metadata"]["resourceVersion"])
                self._changes.put(event["object"])
            else:  # ERROR: the version is too old.
                self._version = ""
                self._ask()
                return

    def _ask(self) -> None:
        if self._stop.wait(_ASK_AGAIN_S):
            return
        try:
            self._changes.put(self._api.get(f"{self._collection}/{self._name}"))
        except ApiError as error:
            if error.status == 404:
                self._changes.put({})
        except (urllib3.exceptions.HTTPError, OSError):
            pass  # The one who waits has the deadline.
