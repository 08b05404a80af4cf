"""Logins, and how often somebody may guess: both in bounded memory."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from imagesearch.frontends.web.security.authorities import address_of
from imagesearch.frontends.web.security.tokens import digest_of

Clock = Callable[[], float]


class Sessions:
    """Who has logged in. Kept are digests, so that a dump of the memory lets nobody in.

    Args:
        seconds: how long a login lasts.
        most: logins at a time; one more ends the oldest.
        clock: seconds that never go back.
    """

    def __init__(self, *, seconds: float, most: int, clock: Clock = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._ends: OrderedDict[bytes, float] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._ends)

    def begin(self) -> str:
        """A new login: its id, 256 random bits, which is not kept."""
        identifier = secrets.token_urlsafe(32)
        self._forget_ended()
        while len(self._ends) >= self._most:
            self._ends.popitem(last=False)
        self._ends[digest_of(identifier)] = self._clock() + self._seconds
        return identifier

    def is_open(self, identifier: str) -> bool:
        """Whether somebody logged in under this id, not too long ago, and has not logged out."""
        end = self._ends.get(digest_of(identifier))
        return end is not None and self._clock() < end

    def end(self, identifier: str) -> None:
        """Log out."""
        self._ends.pop(digest_of(identifier), None)

    def _forget_ended(self) -> None:
        now = self._clock()
        while self._ends and next(iter(self._ends.values())) <= now:
            self._ends.popitem(last=False)


@dataclass
class _Failures:
    count: int
    last: float
    locked_until: float


class Attempts:
    """Wrong tokens per address: after some, each makes the address wait twice as long as the one before.

    Args:
        free: wrong tokens before an address has to wait.
        clock: seconds that never go back.
    """

    LONGEST_WAIT = 300.0
    FORGET_AFTER = 3600.0
    MOST_ADDRESSES = 4096

    def __init__(self, *, free: int, clock: Clock = time.monotonic) -> None:
        self._free = free
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()  # the one that failed longest ago first

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, client: str) -> float:
        """How many seconds this address has to wait before a token of it is looked at; 0 for none."""
        failures = self._failures.get(_neighbourhood(client))
        return max(0.0, failures.locked_until - self._clock()) if failures is not None else 0.0

    def failed(self, client: str) -> None:
        """A wrong token came from this address."""
        key, now = _neighbourhood(client), self._clock()
        failures = self._failures.pop(key, None)
        if failures is None or now - failures.last > self.FORGET_AFTER:
            failures = _Failures(0, now, now)
        failures.count += 1
        failures.last = now
        excess = failures.count - self._free
        if excess >= 0:
            failures.locked_until = now + min(2.0 ** min(excess, 30), self.LONGEST_WAIT)
        while len(self._failures) >= self.MOST_ADDRESSES:
            self._failures.popitem(last=False)
        self._failures[key] = failures

    def succeeded(self, client: str) -> None:
        """The right token came from this address."""
        self._failures.pop(_neighbourhood(client), None)


def _neighbourhood(client: str) -> str:
    """An address; of IPv6 the network, because a single customer has 2^64 addresses to guess from."""
    address = address_of(client.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return client
