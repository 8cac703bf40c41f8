"""Who may read which document, by the document's attributes `audience` and `locations` (a word, or a list of words).

A document without them is for everybody. A coordinator, and an operator of the service, read all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from tools.contract import Directory, Identity, Readable

AUDIENCE, LOCATIONS = "audience", "locations"
EVERYBODY = frozenset({"all", "everybody", "public"})
# A private customer reads as `residential`, a business account as `business`; both are customers.
CUSTOMERS = {"B2C": frozenset({"customer", "residential"}), "B2B": frozenset({"customer", "business"})}
# Who has not signed in is told what any private customer is told.
STRANGERS = CUSTOMERS["B2C"]

_WEB = re.compile(r"https?://", re.IGNORECASE)


def audiences_of(identity: Identity) -> frozenset[str] | None:
    """The audiences whose documents a caller may read; None: all."""
    if identity.role in ("customer", "anonymous"):
        own = STRANGERS if identity.customer_type is None else CUSTOMERS[identity.customer_type]
        return EVERYBODY | own
    return None


def readable_by(identity: Identity, directory: Directory) -> Readable | None:
    """Tells the documents that a caller may read; None: all.

    No filter in Bedrock's grammar: that cannot ask for what has no such attribute, nor pass over capitals.
    """
    if audiences_of(identity) is None:
        return None
    return partial(may_read, identity=identity, directory=directory)


def shown_address(uri: str) -> str:
    """Of a document, what may be told outside: a web page's address, none of a file or a bucket."""
    return uri if _WEB.match(uri) else ""


def may_read(attributes: Mapping[str, Any], identity: Identity, directory: Directory) -> bool:
    """Whether a caller may read a document with these attributes."""
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
