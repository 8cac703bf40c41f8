"""Who asks: a verified caller, independent of how the identity was proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tools.contract import Identity


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Conversations belong to `(tenant, subject)`; `identity` is what tools may know."""

    tenant: str
    subject: str
    identity: Identity
    label: str = ""

    def to_json(self) -> dict[str, Any]:
        """Stored with a turn, so that another replica can go on with it. Holds no credential."""
        who = self.identity
        return {
            "tenant": self.tenant,
            "subject": self.subject,
            "label": self.label,
            "identity": {
                "role": who.role,
                "customer_id": who.customer_id,
                "customer_type": who.customer_type,
                "client_id": who.client_id,
                "clients": list(who.clients),
                "user_id": who.user_id,
            },
        }

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Principal:
        """Inverse of `to_json`."""
        identity = body["identity"]
        return cls(
            tenant=body["tenant"],
            subject=body["subject"],
            label=body["label"],
            identity=Identity(**{**identity, "clients": tuple(identity["clients"])}),
        )
