"""AUTH_MODE=none: a demo identity, named by a header, on loopback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import InvalidRequest
from backend.identity.principal import Principal

HEADER = "x-demo-identity"
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=(\w+)/")


@dataclass(frozen=True, slots=True)
class DemoIdentities:
    """Turns a request's headers into a principal. Later modes replace this with one of the same method."""

    identities: Mapping[str, Principal]
    default: str = "c1"

    def identify(self, headers: Mapping[str, str]) -> Principal:
        """The identity that the header names, the first one without it; `InvalidRequest` for an unknown name.

        Clients of AWS, which send no headers of their own, name one by their access key. Nothing is proven by either.
        """
        key = headers.get(HEADER) or self._signer(headers.get("authorization", "")) or self.default
        known = self.identities.get(key)
        if known is None:
            choices = ", ".join(self.identities)
            raise InvalidRequest(
                f"unknown demo identity {key!r}",
                field=HEADER,
                user_hint=f"The header {HEADER} must be one of: {choices}.",
            )
        return known

    def _signer(self, authorization: str) -> str | None:
        """The identity that signed, if its key is the name of one."""
        found = _SIGNED.match(authorization)
        return found[1] if found and found[1] in self.identities else None
