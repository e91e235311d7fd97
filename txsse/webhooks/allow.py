"""Whether a webhook may go where a client wants it to go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import attrs

from txsse.config.errors import Refused
from txsse.config.urls import Address, is_ip
from txsse.config.webhooks import Allowed, check_path, is_plain, read_allowed, read_host, read_port
from txsse.proxy.globs import path_glob
from txsse.webhooks.addresses import Reach, may_connect

LONGEST: Final = 2048
"""Characters of a webhook's URL."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]@/?#]*\]|[^\[\]:@/?#]*)(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?\Z",
    re.IGNORECASE,
)


@attrs.define(eq=False)
class WebhookRefused(Exception):
    """A prediction cannot be made with this webhook: what is wrong with it, for the client (422). Never quotes it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class Destination:
    """Where a webhook goes, in the one form in which URLs are compared.

    :param path: with the query.
    :param reach: which addresses its host may turn out to have.
    """

    address: Address
    path: str
    reach: Reach

    @property
    def url(self) -> str:
        return self.address.url + self.path

    @property
    def origin(self) -> str:
        """Fit for a log: paths and queries may hold secrets."""
        return self.address.url


class AllowList:
    """The entries of ``webhooks.allow``.

    :raises Refused: of :mod:`txsse.config.errors`: one cannot be read.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._rules = [_Rule(allowed, path_glob(allowed.path)) for allowed in map(read_allowed, entries)]

    def find(self, url: object) -> Destination:
        """Where *url* leads.

        :raises WebhookRefused: it is not listed, or is not a URL that everybody reads in the same way.
        """
        if not isinstance(url, str) or len(url) > LONGEST:
            raise WebhookRefused(f"webhook is not a string of at most {LONGEST} characters.")
        match = _URL.match(url)
        if match is None or not is_plain(url):
            raise WebhookRefused(
                "webhook is not a URL of the form https://host:port/path?query, in ASCII, without user name, fragment and backslash."
            )
        scheme, path = match["scheme"].lower(), match["path"] or "/"
        try:
            check_path(path)
            address = Address(scheme, read_host(match["host"]), read_port(scheme, match["port"]))
        except Refused as refused:
            raise WebhookRefused(f"webhook is refused: {refused.reason}.") from None
        reaches = [rule.reach for rule in self._rules if rule.allows(address, path)]
        if not reaches:
            raise WebhookRefused("webhook goes to a URL that is not allowed here; it must be covered by webhooks.allow.")
        reach = max(reaches, key=list(Reach).index)
        if is_ip(address.host) and not may_connect(address.host, reach):
            raise WebhookRefused("webhook goes to a private address, which webhooks.allow does not name.")
        return Destination(address, path + (match["query"] or ""), reach)


@attrs.frozen
class _Rule:
    allowed: Allowed
    path: re.Pattern[str]

    @property
    def reach(self) -> Reach:
        if self.allowed.host.startswith("*"):
            return Reach.PUBLIC
        return Reach.ANY if is_ip(self.allowed.host) else Reach.NAMED

    def allows(self, address: Address, path: str) -> bool:
        host, port = self.allowed.host, self.allowed.port
        if self.allowed.scheme != address.scheme or port not in (None, address.port):
            return False
        # "*.example.com" is kept with its dot: a host's name ends in ".example.com". An IP address is below nothing.
        covered = host in ("*", address.host) or (host.startswith("*.") and address.host.endswith(host[1:]) and not is_ip(address.host))
        return covered and self.path.fullmatch(path) is not None
