"""Who may read which document, by the document's attributes `audience` and `locations` (a word, or a list of words).

A document without them is for everybody. A coordinator, and an operator of the service, read all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.contract import Directory, Identity, JsonObject

AUDIENCE, LOCATIONS = "audience", "locations"
EVERYBODY = frozenset({"all", "everybody", "public"})
# A private customer reads as `residential`, a business account as `business`; both are customers.
CUSTOMERS = {"B2C": frozenset({"customer", "residential"}), "B2B": frozenset({"customer", "business"})}
# Who has not signed in is told what any private customer is told.
STRANGERS = CUSTOMERS["B2C"]


def audiences_of(identity: Identity) -> frozenset[str] | None:
    """The audiences whose documents a caller may read; None: all."""
    if identity.role in ("customer", "anonymous"):
        own = STRANGERS if identity.customer_type is None else CUSTOMERS[identity.customer_type]
        return EVERYBODY | own
    return None


def filter_of(identity: Identity) -> JsonObject | None:
    """The documents labelled for a caller, as a filter in Bedrock's grammar; None: no filter.

    The grammar cannot ask for what has no such attribute, so documents without `audience` do not fit it.
    """
    audiences = audiences_of(identity)
    if audiences is None:
        return None
    words = sorted(audiences)
    listed = [{"listContains": {"key": AUDIENCE, "value": word}} for word in words]
    return {"orAll": [{"in": {"key": AUDIENCE, "value": words}}, *listed]}


def may_read(attributes: Mapping[str, Any], identity: Identity, directory: Directory) -> bool:
    """Whether a caller may read a document with these attributes, whatever a filter let through."""
    audiences = audiences_of(identity)
    if audiences is None:
        return True
    meant = _words(attributes.get(AUDIENCE))
    if meant and not meant & audiences:
        return False
    places = _words(attributes.get(LOCATIONS))
    return not places or bool(places & (EVERYBODY | _own_places(identity, directory)))


def _words(value: Any) -> frozenset[str]:
    """The words of an attribute, whose value may be one word or a list; nothing else means anybody."""
    listed = value if isinstance(value, list | tuple) else (value,)
    return frozenset(str(each).strip().casefold() for each in listed if each not in (None, ""))


def _own_places(identity: Identity, directory: Directory) -> frozenset[str]:
    """What the caller's locations are called."""
    own = {*identity.clients, *((identity.client_id,) if identity.client_id else ())}
    known = (place for client_id, place in directory.locations.items() if client_id in own)
    named = {name.casefold() for place in known for name in (place.label, place.city, place.name)}
    return frozenset(named | {client_id.casefold() for client_id in own})
