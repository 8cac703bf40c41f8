"""Demo identities, office locations, and the tokens made for upstream."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import jwt
import pytest

from agent.errors import InvalidRequest
from backend.identity.demo import DemoIdentities
from backend.identity.directory import load_deployment
from backend.identity.principal import Principal
from backend.identity.upstream_token import UpstreamTokens
from backend.settings import FIXTURE

DEPLOYMENT = load_deployment(FIXTURE, "default")
SECRET = "s" * 40


class Clock:
    moment = datetime(2026, 3, 11, 9, 30, tzinfo=ZoneInfo("America/New_York"))

    def now(self) -> datetime:
        return self.moment

    async def refresh(self) -> None:
        return None


def test_locations_have_a_city_a_number_and_a_zone() -> None:
    """The city is the one its sites lie in."""
    found = DEPLOYMENT.directory.locations["20OC03PE"]
    assert (found.name, found.city, found.support_number, found.timezone) == (
        "portellis",
        "Port Ellis",
        "555-0133",
        "America/New_York",
    )
    assert DEPLOYMENT.directory.default_hours["Sunday"] is None


def test_identities_of_one_customer_keep_apart_what_they_may_see() -> None:
    """A site manager is not the head office, though both act for the same customer."""
    head, site = DEPLOYMENT.identities["biz"], DEPLOYMENT.identities["biz_lm"]
    assert head.identity.customer_id == site.identity.customer_id
    assert head.subject != site.subject
    assert site.identity.clients == ("20OC02LM",)
    assert len(head.identity.clients) == 4
    assert len({each.label for each in DEPLOYMENT.identities.values()}) == len(DEPLOYMENT.identities)


def test_the_header_picks_an_identity() -> None:
    """`c1` without one; an unknown name is answered with the choices."""
    demo = DemoIdentities(DEPLOYMENT.identities)
    assert demo.identify({}).subject == "demo:c1"
    assert demo.identify({"x-demo-identity": "coord"}).identity.role == "coordinator"
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=ops/20260311/eu-west-1/bedrock/aws4_request, Signature=x"}
    assert demo.identify(signed).identity.role == "operator"
    assert demo.identify({"authorization": signed["authorization"].replace("ops", "AKIA7")}).subject == "demo:c1"
    with pytest.raises(InvalidRequest) as wrong:
        demo.identify({"x-demo-identity": "c9"})
    assert "biz_all" in wrong.value.user_hint


@pytest.mark.parametrize("key", list(DEPLOYMENT.identities))
def test_a_principal_survives_its_row(key: str) -> None:
    """What is stored with a turn is the whole principal."""
    who = DEPLOYMENT.identities[key]
    assert Principal.from_json(who.to_json()) == who


async def test_tokens_say_who_it_is_and_are_renewed_in_time() -> None:
    """Signed for upstream's clock, one a caller, made anew shortly before the end and after a clock set back."""
    clock = Clock()
    tokens = UpstreamTokens(SECRET, clock)
    who = DEPLOYMENT.identities["biz"]
    token = await tokens.of(who)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
    assert claims["customer_id"] == "7000200"
    assert claims["clients"] == list(who.identity.clients)
    assert claims["exp"] == int(clock.moment.timestamp()) + 1800
    clock.moment += timedelta(minutes=20)
    assert await tokens.of(who) == token
    clock.moment += timedelta(minutes=9)
    renewed = await tokens.of(who)
    assert renewed != token
    clock.moment -= timedelta(days=2)
    assert await tokens.of(who) not in (token, renewed)
    for unknown_upstream in ("anon", "ops"):
        assert await tokens.of(DEPLOYMENT.identities[unknown_upstream]) == ""


def test_an_office_has_coordinates_where_the_file_gives_them() -> None:
    """Where routes begin."""
    known = {each.label: (each.latitude, each.longitude) for each in DEPLOYMENT.directory.locations.values()}
    assert known["Brookhaven Office"] == (28.0, -82.0)
    assert known["Lakemont Office"] == (None, None)
