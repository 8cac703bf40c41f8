"""Pages of the web by their addresses, without a way into the network that this runs in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import aiohttp
from yarl import URL

from knowledge_base.documents import Found, Raw
from knowledge_base.errors import Refused
from knowledge_base.sources.addresses import CheckedResolver, Lookup, system_lookup
from knowledge_base.sources.base import NotChanged
from knowledge_base.sources.http_body import ACCEPTED, body_within

REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5
MAX_URL = 2000
MAX_STAMP = 300
AGENT = "outcrop-kb"
# What systems take for an IPv4 address in one of its older spellings: 127.1, 0x7f000001.
_NUMERIC = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", re.I)


class Pages:
    """Pages by address, `doc_id` being the address without fragment. `allowed_hosts` may be private."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        max_bytes: int,
        name: str = "pages",
        allowed_hosts: Collection[str] = (),
        seconds: float = 30.0,
        lookup: Lookup = system_lookup,
    ) -> None:
        self.name = name
        self._urls = urls
        self._max_bytes = max_bytes
        self._resolver = CheckedResolver(frozenset(host.lower().rstrip(".") for host in allowed_hosts), lookup)
        self._timeout = aiohttp.ClientTimeout(total=seconds)
        self._session: aiohttp.ClientSession | None = None

    async def list(self) -> AsyncIterator[Found]:
        """Every address once, in the order given; whether it can be used at all is said when it is read."""
        for url in dict.fromkeys(_without_secrets(url.strip()) for url in self._urls):
            yield Found(url, url, _file_name(url), None, "")

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """The page; `NotChanged` when its server says so."""
        try:
            return await self._read(found, known_stamp)
        except TimeoutError as error:
            raise Refused("timeout", f"did not come within {self._timeout.total:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Refused("unreachable", f"cannot be fetched: {_cause(error)}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _read(self, found: Found, known_stamp: str) -> Raw:
        url = _checked(found.uri)
        for _ in range(MAX_REDIRECTS + 1):
            self._check_literal(url)
            async with self._open().get(url, headers=_conditions(known_stamp), allow_redirects=False) as response:
                if response.status in REDIRECTS and "location" in response.headers:
                    url = _redirected(url, response.headers["location"])
                    continue
                if response.status == 304 and known_stamp:
                    raise NotChanged
                if response.status != 200:
                    raise Refused("unreachable", f"the server answers {response.status}")
                content = await body_within(response, self._max_bytes)
                seen = replace(found, size=len(content), stamp=_stamp(response))
                return Raw(seen, content, media_type=response.headers.get("content-type", "")[:200])
        raise Refused("unreachable", f"redirects more than {MAX_REDIRECTS} times")

    def _check_literal(self, url: URL) -> None:
        """Addresses in place of a name are not resolved, so they are checked here."""
        if address := _literal(url.host or ""):
            self._resolver.check(url.host or "", [address])

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No proxy of the environment: it would resolve names for us, and reach what we may not.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, limit_per_host=4),
                timeout=self._timeout,
                headers={"user-agent": AGENT, "accept": "text/html, */*;q=0.5", "accept-encoding": ACCEPTED},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def read_list(text: str) -> list[str]:
    """The addresses of a file with one a line; empty lines and those that begin with `#` say nothing."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _checked(text: str) -> URL:
    """An address that may be asked for; `Refused` says what is wrong with it."""
    if len(text) > MAX_URL:
        raise Refused("bad_name", f"the address is longer than {MAX_URL} characters")
    try:
        url = URL(text)
    except ValueError as error:
        raise Refused("bad_name", "not an address; write it as https://host/path") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise Refused("unsupported", "only http:// and https:// addresses are fetched")
    if _NUMERIC.search(url.host) and _literal(url.host) is None:
        raise Refused("bad_name", "an IPv4 address is written as four decimal numbers")
    if url.user is not None or url.password is not None or "***@" in text:
        raise Refused("unsupported", "holds a user or password, which citations would show; leave it out")
    return url


def _literal(host: str) -> str | None:
    """The address that stands in place of a name, without its zone."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def _redirected(url: URL, location: str) -> URL:
    try:
        return _checked(str(url.join(URL(location)).with_fragment(None)))
    except ValueError as error:
        raise Refused("unreachable", "redirects to what is no address") from error


def _without_secrets(text: str) -> str:
    """The address as it may be shown and stored: without fragment, user and password."""
    text = text.partition("#")[0]
    scheme, slashes, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if slashes and "@" in authority:
        authority = "***@" + authority.rpartition("@")[2]
    return f"{scheme}{slashes}{authority}{slash}{path}"


def _file_name(url: str) -> str:
    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    return PurePosixPath(path).name or "index.html"


def _conditions(stamp: str) -> dict[str, str]:
    """What makes a server say 304 when the page is still the one of the stamp."""
    kind, _, value = stamp.partition(" ")
    name = {"etag": "if-none-match", "modified": "if-modified-since"}.get(kind)
    return {name: value} if name else {}


def _stamp(response: aiohttp.ClientResponse) -> str:
    for kind, name in (("etag", "etag"), ("modified", "last-modified")):
        value = response.headers.get(name, "")
        if 0 < len(value) <= MAX_STAMP and value.isascii() and value.isprintable():
            return f"{kind} {value}"
    return ""


def _cause(error: Exception) -> str:
    """In a few words, without addresses of ours."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return "the server does not answer"
    return type(error).__name__
