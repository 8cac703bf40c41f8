"""Office locations and demo identities of this deployment, read from one YAML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from backend.identity.principal import Principal
from tools.contract import Directory, Identity, Location


@dataclass(frozen=True)
class Deployment:
    """What `DIRECTORY_FILE` holds."""

    directory: Directory
    identities: Mapping[str, Principal]  # demo identities by key, for AUTH_MODE=none
    timezone: str


def load_deployment(path: Path, tenant: str) -> Deployment:
    """Read the file: `clients`, `personas`, `timezone`, `default_hours` and what locates them, all below `fixture`."""
    # The C loader is ten times as fast where the wheel has it.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    body = yaml.load(path.read_text("utf-8"), Loader=loader)["fixture"]  # noqa: S506 (both are safe)
    timezone = body["timezone"]
    locations = {
        client["client_id"]: _location(client, body.get("projects", ()), timezone) for client in body["clients"]
    }
    directory = Directory(
        locations=MappingProxyType(locations),
        portal_url_template=body.get("portal_url_template", ""),
        environment=body.get("environment", "dev"),
        default_hours={day: tuple(hours) if hours else None for day, hours in body.get("default_hours", {}).items()},
        timezone=timezone,
    )
    names = {customer["customer_id"]: customer.get("display", "") for customer in body.get("customers", ())}
    identities = {
        key: Principal(tenant, f"demo:{key}", _identity(persona), label=_label(persona, names, directory))
        for key, persona in body.get("personas", {}).items()
    }
    return Deployment(directory, MappingProxyType(identities), timezone)


def _location(client: Mapping[str, Any], projects: Any, timezone: str) -> Location:
    """The city is the one most of its sites lie in; the label's first words where it has no sites."""
    cities = Counter(p["address"]["city"] for p in projects if p.get("client_id") == client["client_id"])
    office = client.get("office") or {}
    return Location(
        client_id=client["client_id"],
        name=client["client_name"],
        label=client["label"],
        city=client.get("city") or (cities.most_common(1)[0][0] if cities else client["label"].removesuffix(" Office")),
        support_number=client.get("support_number"),
        timezone=client.get("timezone", timezone),
        latitude=office.get("latitude"),
        longitude=office.get("longitude"),
    )


def _identity(persona: Mapping[str, Any]) -> Identity:
    client_id = persona.get("client_id")
    return Identity(
        role=persona["role"],
        customer_id=persona.get("customer_id"),
        customer_type=persona.get("customer_type"),
        client_id=client_id,
        clients=tuple(persona.get("available_clients") or ([client_id] if client_id else [])),
        user_id=persona.get("user_id"),
    )


def _label(persona: Mapping[str, Any], names: Mapping[str, str], directory: Directory) -> str:
    """How the demo's chooser calls an identity: a name, and the location it stands for where there is a choice."""
    if persona["role"] == "anonymous":
        return "Not signed in"
    if persona["role"] == "operator":
        return "Operator of the knowledge base"
    location = directory.locations.get(persona.get("client_id") or "")
    if persona["role"] == "coordinator":
        return f"Coordinator, {location.label if location else 'all offices'}"
    customer_id = str(persona.get("customer_id", ""))
    name = names.get(customer_id, customer_id)
    if persona.get("customer_type") != "B2B":
        return name
    several = len(persona.get("available_clients") or ()) > 1
    if location is None:
        return f"{name}, all locations"
    return f"{name}, {location.label}" + ("" if several else " only")
