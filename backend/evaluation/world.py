"""The seed data as one persona may see it, and what lies outside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

JsonObject = dict[str, Any]

TERMINAL = frozenset({"completed", "cancelled", "closed", "archived", "refunded", "support requested"})

STREET_WORDS = {
    "ln": "lane", "ct": "court", "dr": "drive", "ave": "avenue", "st": "street", "rd": "road", "plz": "plaza",
    "blvd": "boulevard",
}  # fmt: skip


@dataclass(frozen=True)
class Project:
    """A project of a customer, or (without customer, number and address) of a coordinator's work list."""

    project_id: str
    client_id: str
    category: str
    type: str = ""
    status: str = ""
    order_number: str = ""
    customer_id: str = ""
    technician: str | None = None
    start: str | None = None
    end: str | None = None
    address1: str = ""
    city: str = ""
    zipcode: str = ""
    availability: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # date -> slot starts HH:MM

    @cached_property
    def category_pattern(self) -> re.Pattern[str]:
        """The category's words, in the singular or the plural."""
        *first, last = self.category.lower().split()
        stem = last[:-1] if last.endswith("s") and not last.endswith("ss") else last
        return re.compile(
            r"\b" + r"[\s-]+".join([*map(re.escape, first), re.escape(stem) + "s?"]) + r"\b", re.IGNORECASE
        )

    @cached_property
    def street_pattern(self) -> re.Pattern[str]:
        """The address line: with its number, or as street name and kind."""
        number, *name, kind = self.address1.split()
        street = re.escape(" ".join(name))
        kinds = rf"(?:{re.escape(kind)}|{STREET_WORDS.get(kind.lower(), re.escape(kind))})\b"
        return re.compile(rf"\b{re.escape(number)}\s+{street}\b|\b{street}\s+{kinds}", re.IGNORECASE)

    @property
    def is_active(self) -> bool:
        """Whether it is in the default list."""
        return self.status.strip().lower() not in TERMINAL


@dataclass(frozen=True)
class Location:
    """An office location."""

    client_id: str
    slug: str
    label: str
    support_number: str

    @property
    def city(self) -> str:
        """The town by which people call it."""
        return self.label.removesuffix(" Office")


@dataclass(frozen=True)
class World:
    """The fixture, read."""

    fixture: JsonObject

    @cached_property
    def now(self) -> datetime:
        """Where the clock stands when a conversation begins."""
        return datetime.fromisoformat(self.fixture["now"])

    @cached_property
    def locations(self) -> dict[str, Location]:
        """All locations by client_id."""
        rows = self.fixture["clients"]
        return {
            r["client_id"]: Location(r["client_id"], r["client_name"], r["label"], r["support_number"]) for r in rows
        }

    @cached_property
    def projects(self) -> dict[str, Project]:
        """All projects of customers by id."""
        return {str(row["project_id"]): self._project(row) for row in self.fixture["projects"]}

    @cached_property
    def queue(self) -> dict[str, Project]:
        """The coordinators' work list by id; it belongs to the location of the coordinators' personas."""
        homes = [p["client_id"] for p in self.fixture["personas"].values() if p.get("role") == "coordinator"]
        home = homes[0] if homes else ""
        rows = self.fixture.get("queue", ())
        return {str(r["project_id"]): Project(str(r["project_id"]), home, r["category"]) for r in rows}

    def view(self, persona: str) -> View:
        """What this persona may see."""
        return View(self, self.fixture["personas"][persona])

    def _project(self, row: JsonObject) -> Project:
        templates = self.fixture.get("slot_templates", {})
        slots = {
            str(day): tuple(time[:5] for time in (templates.get(name, ()) if isinstance(name, str) else name))
            for day, name in row.get("availability", {}).items()
        }
        address = row["address"]
        return Project(
            project_id=str(row["project_id"]),
            client_id=row["client_id"],
            category=row["category"],
            type=row["type"],
            status=row["status"],
            order_number=row["order_number"],
            customer_id=str(row["customer_id"]),
            technician=row.get("technician"),
            start=row.get("start"),
            end=row.get("end"),
            address1=address["address1"],
            city=address["city"],
            zipcode=str(address["zipcode"]),
            availability=slots,
        )


@dataclass(frozen=True)
class View:
    """One persona's part of the world."""

    world: World
    persona: JsonObject

    @property
    def role(self) -> str:
        """customer, coordinator or anonymous."""
        return str(self.persona.get("role", "anonymous"))

    @property
    def customer_id(self) -> str | None:
        """The customer's id, if the persona is one."""
        value = self.persona.get("customer_id")
        return None if value is None else str(value)

    @cached_property
    def client_ids(self) -> frozenset[str]:
        """The locations that the persona may see."""
        single = [self.persona["client_id"]] if self.persona.get("client_id") else []
        return frozenset(self.persona.get("available_clients") or single)

    @cached_property
    def projects(self) -> dict[str, Project]:
        """The persona's own projects, finished ones included."""
        if self.role == "coordinator":
            return {key: p for key, p in self.world.queue.items() if p.client_id in self.client_ids}
        return {
            key: project
            for key, project in self.world.projects.items()
            if project.customer_id == self.customer_id and project.client_id in self.client_ids
        }

    @cached_property
    def foreign_projects(self) -> dict[str, Project]:
        """Everything else."""
        everything = {**self.world.projects, **self.world.queue}
        return {key: project for key, project in everything.items() if key not in self.projects}

    @cached_property
    def foreign_ids(self) -> frozenset[str]:
        """Project, customer and client ids and order numbers outside the persona."""
        ids = {value for p in self.foreign_projects.values() for value in (p.project_id, p.order_number) if value}
        ids |= {str(row["customer_id"]) for row in self.world.fixture["customers"]} - {self.customer_id or ""}
        return frozenset(ids | (set(self.world.locations) - self.client_ids))

    @cached_property
    def foreign_words(self) -> dict[str, re.Pattern[str]]:
        """Ids, names and addresses outside the persona, each with the pattern that finds it."""
        own = self.projects.values()
        found = {value: _word(value, r"(?<![\w-])") for value in self.foreign_ids}
        own_streets, own_zipcodes = {p.address1 for p in own}, {p.zipcode for p in own}
        own_technicians = {p.technician for p in own}
        for project in self.foreign_projects.values():
            if project.address1 and project.address1 not in own_streets:
                found[project.address1] = project.street_pattern
            if project.zipcode and project.zipcode not in own_zipcodes:
                found[project.zipcode] = _word(project.zipcode)
            if project.technician and project.technician not in own_technicians:
                found[project.technician] = _word(project.technician)
        for location in self.world.locations.values():
            if location.client_id not in self.client_ids and location.city not in {p.city for p in own}:
                found |= {name: _word(name) for name in (location.city, location.slug)}
        for customer in self.world.fixture["customers"]:
            if str(customer["customer_id"]) != self.customer_id:
                found |= {name: _word(name) for name in (customer["display"], customer["email"], customer["phone"])}
        return found

    @cached_property
    def support_numbers(self) -> frozenset[str]:
        """Office numbers of the persona's locations."""
        return frozenset(self.world.locations[c].support_number for c in self.client_ids if c in self.world.locations)

    def portal_url(self, project_id: str) -> str:
        """The portal link of a project."""
        project = self.world.projects.get(project_id) or self.world.queue[project_id]
        word = self.world.fixture.get("environment", "dev")
        host = {"prod": "apps"}.get(word, word)
        template = str(self.world.fixture["portal_url_template"])
        name = self.world.locations[project.client_id].slug
        return template.format(client_name=name, environment=host, project_id=project_id)


def words(text: str) -> list[str]:
    """Lower-case words, for comparing wordings."""
    return re.findall(r"[a-z0-9']+", text.lower())


def _word(text: str, before: str = r"(?<!\w)") -> re.Pattern[str]:
    return re.compile(rf"{before}{re.escape(text)}(?!\w)", re.IGNORECASE)
