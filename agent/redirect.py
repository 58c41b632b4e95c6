"""Which way to redirect ports works in this pod, and getting rid of what dead agents left.

Every agent has a name; its nftables table or iptables chain is called so, and while it lives and redirects it holds
an abstract unix socket of that name in the pod's network namespace. Such a socket ends with its process, whatever
happens, so rules without one belong to nobody. A socket for each stolen port in the same way keeps two sessions from
stealing one port.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from typing import Protocol, Union

from . import iptables, nft

PREFIX = "mirrord_trace_"


class Redirect(Protocol):
    """Connections to a changing set of ports come to one listener. See nft.NftRedirect."""

    @property
    def refresh_s(self) -> float:
        """Seconds within which `refresh` must be called again; 0: never."""
        ...

    def add(self, port: int) -> None:
        """Redirect new connections to `port`."""
        ...

    def remove(self, port: int) -> None:
        """Leave new connections to `port` alone again."""
        ...

    def refresh(self) -> None:
        """Keep the redirect alive."""
        ...

    def close(self) -> None:
        """Remove all rules."""
        ...


def new_name() -> str:
    """A name for an agent: of its table or chain, and of its sign of life."""
    return PREFIX + secrets.token_hex(4)


def claim(name: str) -> socket.socket:
    """Hold `name` in this network namespace for as long as the socket lives; EADDRINUSE if somebody else does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind("\0" + name)
    except OSError:
        sock.close()
        raise
    return sock


def claim_port(port: int) -> socket.socket:
    """Hold the right to steal `port`; EADDRINUSE if another session has it."""
    return claim(f"{PREFIX}port_{port}")


def is_claimed(name: str) -> bool:
    """Whether an agent of that name lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect("\0" + name)
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
    return True


def open_redirect(name: str, listener_port: int) -> Redirect:
    """The first way that works here; OSError with a text for the user if none does."""
    nft_error: Union[OSError, str]
    try:
        return nft.NftRedirect(name, listener_port)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PermissionError(
                errno.EPERM,
                "redirecting a port of the pod needs CAP_NET_ADMIN, which the agent does not have: "
                "use a privileged agent (agent.ephemeral: false) or a profile that allows it",
            ) from error
        nft_error = error
    try:
        return iptables.IptablesRedirect(name, listener_port)
    except OSError as error:
        raise OSError(
            errno.EOPNOTSUPP,
            f"ports of the pod cannot be redirected: nf_tables: {nft_error.strerror}; iptables: {error.strerror}",
        ) from error


def remove_rules(name: str) -> None:
    """Remove what an agent of that name may have left. Without the right to, nothing was left."""
    try:
        for family, table in nft.tables(name):
            if table == name:
                nft.remove_table(family, table)
    except OSError:
        pass
    if os.geteuid() == 0 and name in iptables.chains(name):
        iptables.remove_chain(name)


def remove_stale_rules() -> None:
    """Remove what dead agents left in this network namespace."""
    try:
        stale = [(family, table) for family, table in nft.tables(PREFIX) if not is_claimed(table)]
    except OSError as error:
        if error.errno != errno.EPERM:
            _remove_stale_chains()
        return
    for family, table in stale:
        try:
            nft.remove_table(family, table)
        except OSError:
            continue  # another agent was quicker, or its owner has come to life in between


def _remove_stale_chains() -> None:
    for chain in iptables.chains(PREFIX):
        if not is_claimed(chain):
            iptables.remove_chain(chain)
