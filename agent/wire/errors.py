"""The two ways in which the protocol can be broken: by us, or by the peer."""

from __future__ import annotations


class LocalProtocolError(Exception):
    """This side asked the protocol core for something it does not allow: a bug of the caller. Nothing was sent."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol, or is no peer at all. Close the transport and do not resume the session."""
