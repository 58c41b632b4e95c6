"""What becomes of the program's name queries (port 53), whatever resolver it has.

A query goes to the pod, unless `feature.network.dns.filter` gives the name to this machine, or the answer to the same
query is still good. Answers go to the program as they come. Where a filter has names, what they say is told to the
tracer first: the program's next call may be a connect to an address from the answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable

from ...agent.pump.loop import Loop
from ...agent.wire.messages import Message
from ...syscalls.name_rules import DnsConfig, aliases
from ...syscalls.requests import NamesLearnt
from . import dns_message
from .dns_cache import DnsCache
from .dns_local import LocalNames, hosts_entries, search_domains

FOREVER_S = 0x7FFFFFFF
MOST_PENDING = 2048
_LONGEST_READ = 16384  # longer answers are passed on unread
_PORT = 53

Reply = Callable[[bytes], None]


class Dns:
    """All name queries of one session. `asker` is whoever has the answer to come: a socket or connection of the program."""

    def __init__(
        self,
        config: DnsConfig,
        local: LocalNames,
        tell: Callable[[Message], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._local = local
        self._tell = tell
        self._search: tuple[str, ...] = ()
        self._cache = DnsCache(clock) if config.cache else None
        self._pending: OrderedDict[Hashable, dns_message.Query] = OrderedDict()

    @classmethod
    def of_machine(cls, config: DnsConfig, loop: Loop, tell: Callable[[Message], None]) -> Dns:
        """With this machine's own resolver files."""
        return cls(config, LocalNames(loop), tell)

    @property
    def wants_pod_files(self) -> bool:
        """Whether the pod's resolv.conf and hosts are needed, for `learn_files`."""
        return self._config.learn or self._config.has_filter

    @property
    def is_idle(self) -> bool:
        """Whether queries need no look at all."""
        return self._cache is None and not self._config.learn and not self._config.has_filter

    def learn_files(self, resolv_conf: bytes, hosts: bytes) -> None:
        """What the pod's /etc/resolv.conf and /etc/hosts say, before the program starts."""
        self._search = search_domains(resolv_conf.decode("utf-8", "replace"))
        for ip, names in hosts_entries(hosts.decode("utf-8", "replace")):
            self._learnt(sorted(names), (ip,), FOREVER_S)

    def ask(self, asker: Hashable, server: Hashable, message: bytes, reply: Reply, *, by_tcp: bool = False) -> bool:
        """A query of the program. True: `reply` gets the answer, now or later. False: it has to go to `server`."""
        query = None if self.is_idle else dns_message.read_query(message)
        if query is None:
            return False
        names = aliases(query.name, self._search)
        if self._config.is_local(names):
            self._local.ask(message, query, names, by_tcp, lambda answer: self._answered_here(query, answer, by_tcp, reply))
            return True
        if self._cache is not None:
            kept = self._cache.answer(server, message, query)
            if kept is not None and (by_tcp or len(kept) <= query.limit_bytes):
                reply(kept)
                return True
        self._pending[(asker, server, query.id, query.name, query.kind)] = query
        while len(self._pending) > MOST_PENDING:
            self._pending.popitem(last=False)
        return False

    def answered(self, asker: Hashable, server: Hashable, message: bytes) -> None:
        """`server` has sent something, which the caller passes on to the program afterwards."""
        if self.is_idle or len(message) > _LONGEST_READ:
            return
        response = dns_message.read_response(message)
        if response is None:
            return
        query = self._pending.pop((asker, server, response.id, response.name, response.kind), None)
        if query is None:
            return  # nobody has asked that
        self._learn(response)
        if self._cache is not None:
            self._cache.keep(server, query, message, response)

    def close(self) -> None:
        """Answer nothing any more."""
        self._local.close()

    def _answered_here(self, query: dns_message.Query, answer: bytes, by_tcp: bool, reply: Reply) -> None:
        response = dns_message.read_response(answer)
        if response is not None:
            self._learn(response)
        if not by_tcp and len(answer) > query.limit_bytes:
            answer = dns_message.cut_short(answer, query.question_end)
        reply(answer)

    def _learn(self, response: dns_message.Response) -> None:
        if self._config.learn:
            names, ips, ttl_s = response.addresses()
            if ips:
                self._learnt(names, ips, ttl_s)

    def _learnt(self, names: Iterable[str], ips: tuple[bytes, ...], ttl_s: int) -> None:
        if self._config.learn:
            known = dict.fromkeys(alias for name in names for alias in aliases(name, self._search))
            self._tell(NamesLearnt(tuple(known), ips, ttl_s))


def is_name_server(port: int) -> bool:
    """Whether what goes to this port is taken for name queries."""
    return port == _PORT
