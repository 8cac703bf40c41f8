"""Who asks: HS256 bearer tokens, and what a token's claims let its bearer see."""

from __future__ import annotations

from dataclasses import dataclass

import jwt

from .refusal import Refusal

ROLES = frozenset({"customer", "coordinator", "service"})
# A token is verified once and remembered: a conversation sends the same one with each of its calls.
REMEMBERED_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Claims:
    """The verified content of a bearer token."""

    sub: str
    role: str
    customer_id: str | None
    clients: frozenset[str]
    exp: float

    @property
    def holder(self) -> str:
        """Whom a request ticket is bound to."""
        return self.customer_id or f"{self.role}:{self.sub}"

    def may_see(self, client_id: str, customer_id: str) -> bool:
        """Customers see their own data at their clients, staff all data of their clients."""
        return client_id in self.clients and (self.role != "customer" or self.customer_id == customer_id)


class TokenReader:
    """Verifies bearer tokens against one shared secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._verified: dict[str, Claims] = {}

    def read(self, header: str | None, now: float) -> Claims:
        """The claims of an `authorization` header; 401 when absent, forged or expired at `now` (epoch seconds)."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(401, "auth", "A bearer token is required")
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            if len(self._verified) >= REMEMBERED_TOKENS:
                self._verified.clear()
            self._verified[token] = claims
        if claims.exp <= now:
            raise Refusal(401, "auth", "The token has expired")
        if claims.role not in ROLES:
            raise Refusal(403, "forbidden", "This role has no access")
        return claims

    def _verify(self, token: str) -> Claims:
        try:
            # Expiry is judged by the simulator's clock, which may be frozen; the library would take real time.
            payload = jwt.decode(
                token.strip(),
                self._secret,
                algorithms=["HS256"],
                options={
                    "require": ["exp", "sub"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_aud": False,
                },
            )
            return _claims(payload)
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise Refusal(401, "auth", "The token is not valid") from error


def _claims(payload: dict[str, object]) -> Claims:
    """Read a payload; `TypeError` or `ValueError` when a claim has the wrong form."""
    clients, exp, customer_id = payload.get("clients") or [], payload["exp"], payload.get("customer_id")
    if not isinstance(clients, list) or not isinstance(exp, int | float):
        raise TypeError("clients must be a list and exp a number")
    return Claims(
        sub=str(payload["sub"]),
        role=str(payload.get("role", "")),
        customer_id=None if customer_id is None else str(customer_id),
        clients=frozenset(str(client) for client in clients),
        exp=float(exp),
    )
