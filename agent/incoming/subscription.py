"""What one `Subscribe` asks for, worked out: who decides, on whose certificate, how much of it is taken."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Optional

from ..http.actions import Router
from ..http.router import open_router
from ..http.rules import Rules, RulesError, parse_rules
from ..http.sample import Sampler
from ..target import Target
from ..wire.messages import Subscribe
from .layers import Kind

if TYPE_CHECKING:
    from ..http.tls import TlsEnds
    from .certificates import Certificates


class Subscription:
    """The plan for one port. Made on the loop; OSError EINVAL: the rules make no sense. `prepare` before it is used."""

    def __init__(self, request: Subscribe) -> None:
        try:
            self._rules: Rules = parse_rules(request.rules)
        except RulesError as error:
            raise OSError(errno.EINVAL, str(error)) from error
        self.request = request
        self.port = request.port
        self.mirror = request.mirror
        self.take_probes = self._rules.take_probes
        self._sampler = Sampler(self._rules.sample)
        self._certificates: Optional[Certificates] = None
        self._tls_ends: Optional[TlsEnds] = None

    @property
    def kind(self) -> Kind:
        """The layer that it belongs to. Whatever leaves something for others is a filter."""
        if self.mirror:
            return Kind.MIRROR
        return Kind.FILTER if self._rules.filter is not None or self._rules.sample is not None else Kind.STEAL

    def prepare(self, target: Target) -> None:
        """Read what TLS needs. May block. OSError: has a text for the user."""
        tls = self._rules.tls
        if tls is None:
            return
        # ssl is large, and few need it.
        from ..http.tls import TlsEnds
        from .certificates import Certificates

        self._certificates = Certificates(target, tls)
        try:
            self._tls_ends = TlsEnds(tls, self._certificates.context_for)
        except (OSError, ValueError) as error:
            raise OSError(errno.EINVAL, f"tls.trust_roots cannot be used: {error}") from error

    def takes(self) -> bool:
        """Whether a connection is the client's, where that is decided for a connection as a whole."""
        return self._sampler()

    def router(self) -> Optional[Router]:
        """Who decides request by request, or None. Sampling alone needs nobody: it goes by connections then."""
        rules = self._rules
        if self._tls_ends is not None:
            from ..http.tls import open_tls_router

            return open_tls_router(rules, self.mirror, self._tls_ends, self._sampler)
        if rules.filter is not None or rules.marker:
            return open_router(rules, self.mirror, self._sampler)
        return None

    def plain_router(self) -> Router:
        """Everything to the client but probes."""
        return open_router(Rules(), False)

    def close(self) -> None:
        """The port is given back. Connections that are under way keep what they need."""
        if self._certificates is not None:
            self._certificates.close()
