"""Which way to redirect ports works in this pod, and getting rid of what dead agents left.

Every agent has a name. While it lives and redirects it claims that name (claims.py); its nftables tables or iptables chains
are called `name_layer` or `name_layer port`, in hexadecimal. So rules whose name nobody claims belong to nobody.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import Protocol, Union

from . import iptables, nft
from .claims import PREFIX, is_claimed


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
    """A name for an agent: of its tables or chains, and of its sign of life."""
    return PREFIX + secrets.token_hex(3)


def open_redirect(agent: str, listener_port: int, layer: int, udp_port: int = 0) -> Redirect:
    """The first way that works here; OSError with a text for the user if none does.

    For TCP, or for `udp_port` if it is not 0: each of those needs a redirect of its own.
    """
    name = f"{agent}_{layer:02x}" + (f"{udp_port:04x}" if udp_port else "")
    protocol = nft.UDP if udp_port else nft.TCP
    nft_error: Union[OSError, str]
    try:
        return nft.NftRedirect(name, listener_port, layer, protocol)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PermissionError(
                errno.EPERM,
                "redirecting a port of the pod needs CAP_NET_ADMIN, which the agent does not have: "
                "use a privileged agent (agent.ephemeral: false) or a profile that allows it",
            ) from error
        nft_error = error
    try:
        return iptables.IptablesRedirect(name, listener_port, layer, protocol)
    except OSError as error:
        raise OSError(
            errno.EOPNOTSUPP,
            f"ports of the pod cannot be redirected: nf_tables: {nft_error.strerror}; iptables: {error.strerror}",
        ) from error


def remove_rules(agent: str) -> None:
    """Remove what an agent of that name may have left. Without the right to, nothing was left."""
    try:
        for family, table in nft.tables(agent + "_"):
            nft.remove_table(family, table)
    except OSError:
        pass
    if os.geteuid() == 0:
        for chain in iptables.chains(agent + "_"):
            iptables.remove_chain(chain)


def remove_stale_rules() -> None:
    """Remove what dead agents left in this network namespace."""
    try:
        stale = [(family, table) for family, table in nft.tables(PREFIX) if not is_claimed(_agent_of(table))]
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
        if not is_claimed(_agent_of(chain)):
            iptables.remove_chain(chain)


def _agent_of(name: str) -> str:
    return name.rpartition("_")[0]
