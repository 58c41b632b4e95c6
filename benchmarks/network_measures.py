"""What the network benchmark measures on each way: one function each, numbers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .network_rig import Way
from .processes import resident_mib

Numbers = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    bulk_bytes: int = 300_000_000
    connects: int = 1000
    seconds: float = 3
    held: int = 1000


def bulk(way: Way, scale: Scale, direction: str) -> Numbers:
    """MB/s of one connection (each way), and nanoseconds of CPU per byte moved, of all processes in between."""
    before = way.between.cpu_s()
    answer = way.ask("bulk", "RAW", direction, scale.bulk_bytes)
    moved = scale.bulk_bytes * (2 if direction == "both" else 1)
    cpu = (way.between.cpu_s() - before) / moved * 1e9
    return {f"{direction} MB/s": scale.bulk_bytes / answer["seconds"] / 1e6, f"{direction} CPU ns/B": cpu}


def stalled(way: Way, scale: Scale) -> Numbers:
    """MB/s of a connection next to one that is not read from; 0: nothing came through."""
    answer = way.ask("stall", "RAW", scale.bulk_bytes)
    return {"beside a stalled one MB/s": scale.bulk_bytes / answer["seconds"] / 1e6 if "seconds" in answer else 0.0}


def connects(way: Way, scale: Scale) -> Numbers:
    """Connections made and used per second, 8 at a time."""
    answer = way.ask("connects", "RAW", scale.connects, 8)
    rate = answer["count"] / answer["seconds"]
    return {"connects/s": rate, "connect p50 µs": answer["p50_us"], "connects failed": answer["failed"]}


def http(way: Way, scale: Scale, connections: int) -> Numbers:
    """Requests per second, one after the other on each connection, and their times; CPU of what is in between."""
    before = way.between.cpu_s()
    answer = way.ask("http", "HTTP", connections, scale.seconds, 0)
    cpu = (way.between.cpu_s() - before) / max(1, answer["answered"]) * 1e6
    name = f"http x{connections}"
    return {
        f"{name} req/s": answer["answered"] / answer["seconds"],
        f"{name} p50 µs": answer["p50_us"],
        f"{name} p99 µs": answer["p99_us"],
        f"{name} lost": answer["lost"],
        f"{name} CPU µs": cpu,
    }


MEASURES: tuple[Callable[[Way, Scale], Numbers], ...] = (
    lambda way, scale: bulk(way, scale, "down"),
    lambda way, scale: bulk(way, scale, "up"),
    lambda way, scale: bulk(way, scale, "both"),
    connects,
    lambda way, scale: http(way, scale, 1),
    lambda way, scale: http(way, scale, 32),
)


def held(way: Way, scale: Scale, parts: dict[str, int]) -> Numbers:
    """Many connections at once: two rounds over all, and what the processes have in memory before and in between."""
    found = {f"{name} idle MiB": resident_mib(pid) for name, pid in parts.items()}
    way.say("hold", "RAW", scale.held)
    first = way.hear()
    found |= {f"{name} {scale.held} connections MiB": resident_mib(pid) for name, pid in parts.items()}
    way.say("")
    second = way.hear()
    return found | {
        f"{scale.held} connections, connect and round s": first["seconds"],
        f"{scale.held} connections, round s": second["seconds"],
        f"{scale.held} connections failed": max(first["failed"], second["failed"]),
    }
