"""One request as the handlers see it: who asks, for which project, with which body; and how paths find handlers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .auth import Claims
from .fixture import Json
from .refusal import Refusal, invalid, malformed, not_found
from .simulator import Simulator
from .state import Origin, Project


@dataclass(slots=True)
class Call:
    """One request on its way through the simulator."""

    sim: Simulator
    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    stale: bool = False
    steal_slot: bool = False
    claims: Claims | None = None

    @property
    def client_header(self) -> str:
        return self.headers.get(b"client_id", b"").decode("latin-1")

    def caller(self) -> Claims:
        """The verified bearer, who must name one of the token's clients in the `client_id` header."""
        claims = self.signed_in()
        header = self.client_header
        if not header:
            raise invalid("The client_id header is required")
        if header not in claims.clients or header not in self.sim.state.clients:
            raise Refusal(403, "forbidden", "This client is not allowed for this token")
        if self.params.get("client_id", header) != header:
            raise Refusal(403, "forbidden", "The client_id header does not match the path")
        return claims

    def signed_in(self) -> Claims:
        if self.claims is None:
            header = self.headers.get(b"authorization")
            text = header.decode("latin-1") if header else None
            self.claims = self.sim.tokens.read(text, self.sim.clock.now().timestamp())
        return self.claims

    def coordinator(self) -> Claims:
        claims = self.caller()
        if claims.role == "customer":
            raise Refusal(403, "forbidden", "Coordinators only")
        return claims

    def project(self, breaches: list[str] | None = None) -> tuple[Claims, Project]:
        """The caller and the project of the path. Out of scope counts as unknown.

        A write passes its `breaches`: with the `lenient` switch on, a project outside the caller's scope is then
        named there instead of being refused.
        """
        lenient = breaches is not None and self.sim.state.switches.lenient
        claims = self.signed_in() if lenient else self.caller()
        project = self.sim.state.projects.get(self.params["project_id"])
        if project is None:
            raise not_found()
        in_scope = claims.may_see(project.client_id, project.customer_id)
        in_scope &= self.params["client_id"] == project.client_id == self.client_header
        customer = self.params.get("customer_id")
        in_scope &= customer is None or customer == project.customer_id
        if in_scope:
            return claims, project
        if breaches is None or not lenient:
            raise not_found()
        breaches.append("writes_outside_scope")
        return claims, project

    def json(self) -> Json:
        body = self.json_value()
        if not isinstance(body, dict):
            raise malformed("The body must be a JSON object")
        return body

    def json_value(self) -> object:
        try:
            value: object = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise malformed("The body is not JSON") from error
        return value

    def origin(self) -> Origin:
        return Origin("api", self.method, self.path, self.caller_json())

    def caller_json(self) -> Json | None:
        """The caller as logs name it; never the token."""
        if self.claims is None:
            return None
        return {"sub": self.claims.sub, "role": self.claims.role, "customer_id": self.claims.customer_id}


class Router:
    """Paths with `{names}` to one value per method."""

    def __init__(self, routes: tuple[tuple[str, str, Any], ...]) -> None:
        by_path: dict[str, dict[str, Any]] = {}
        for method, path, target in routes:
            by_path.setdefault(path, {})[method] = target
        self._routes = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), targets) for path, targets in by_path.items()
        ]

    def find(self, method: str, path: str) -> tuple[Any, dict[str, str]]:
        """The target and the path's values; `Refusal` 404 or 405. HEAD is no GET here: some GETs change state."""
        for pattern, targets in self._routes:
            match = pattern.fullmatch(path)
            if match:
                if method not in targets:
                    allow = (b"allow", ", ".join(targets).encode())
                    raise Refusal(405, "method_not_allowed", "Method not allowed", (allow,))
                return targets[method], match.groupdict()
        raise not_found()
