"""Bearer tokens for the system behind the tools, signed here while AUTH_MODE=none; held in memory only."""

from __future__ import annotations

from dataclasses import dataclass, field

import jwt

from backend.clock import ProductClock
from backend.identity.principal import Principal

LIFE_S = 1800
RENEW_BEFORE_S = 120
REMEMBERED = 4096


@dataclass(slots=True)
class UpstreamTokens:
    """One token per caller, made anew shortly before it expires. Time is the product's, as upstream's is."""

    secret: str
    clock: ProductClock
    _tokens: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)

    async def of(self, caller: Principal) -> str:
        """The caller's token; empty for those whom upstream does not know, and will refuse."""
        if caller.identity.role in ("anonymous", "operator"):
            return ""
        now = self.clock.now().timestamp()
        key = (caller.tenant, caller.subject)
        expires_at, token = self._tokens.get(key, (0.0, ""))
        # A clock that was set back leaves tokens that would live too long: those go as well.
        if not now + RENEW_BEFORE_S < expires_at <= now + LIFE_S:
            expires_at = now + LIFE_S
            token = self._sign(caller, int(expires_at))
            if len(self._tokens) >= REMEMBERED:
                self._tokens.clear()
            self._tokens[key] = (expires_at, token)
        return token

    def _sign(self, caller: Principal, expires_at: int) -> str:
        who = caller.identity
        claims = {
            "sub": who.user_id or who.customer_id or caller.subject,
            "role": who.role,
            "customer_id": who.customer_id,
            "clients": list(who.clients),
            "exp": expires_at,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")
