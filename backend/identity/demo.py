"""AUTH_MODE=none: a demo identity, named by a header, on loopback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import InvalidRequest
from backend.identity.principal import Principal

HEADER = "x-demo-identity"


@dataclass(frozen=True, slots=True)
class DemoIdentities:
    """Turns a request's headers into a principal. Later modes replace this with one of the same method."""

    identities: Mapping[str, Principal]
    default: str = "c1"

    def identify(self, headers: Mapping[str, str]) -> Principal:
        """The identity that the header names, the first one without it; `InvalidRequest` for an unknown name."""
        key = headers.get(HEADER, self.default)
        known = self.identities.get(key)
        if known is None:
            choices = ", ".join(self.identities)
            raise InvalidRequest(
                f"unknown demo identity {key!r}",
                field=HEADER,
                user_hint=f"The header {HEADER} must be one of: {choices}.",
            )
        return known
