"""What reads answer: dashboard rows (E1), business hours (E2) and weather, in the shapes of the originals."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from .fixture import Json
from .refusal import not_found
from .state import Project, Standing, UpstreamState

WEATHER_DAYS = 10
ORDINARY_WEATHER = ("Clear", 76, 60, 5, 8)  # condition, high F, low F, precipitation %, wind mph


def dashboard(state: UpstreamState, client_id: str, customer_id: str, stale: bool = False) -> list[Json]:
    """All projects of a customer at one client; `stale` shows them as before the customer's last write."""
    hidden = state.before_last_write.get(customer_id) if stale else None
    return [
        _row(state, project, hidden[1] if hidden and hidden[0] == project.project_id else project.standing)
        for project in state.projects_of.get((client_id, customer_id), ())
    ]


def _row(state: UpstreamState, project: Project, standing: Standing) -> Json:
    seed, address = project.seed, project.seed["address"]
    customer, client = state.customers[project.customer_id], state.clients[project.client_id]
    first, _, last = str(customer["display"]).partition(" ")
    tech_first, _, tech_last = (standing.technician or "").partition(" ")
    return {
        "project_project_id": project.project_id,
        "project_project_number": seed["order_number"],
        "project_type_project_type": seed["type"],
        "project_category_category": seed["category"],
        "status_info_status": standing.status,
        "project_store_store_number": seed["store"],
        "store_info_store_number": seed["store"],
        "store_info_store_name": None,
        "project_po_number": None,
        "installation_address_full_address": (
            f"{address['address1']}, {address['city']}, {address['state']} {address['zipcode']}"
        ),
        "installation_address_address1": address["address1"],
        "installation_address_address2": address.get("address2"),
        "installation_address_city": address["city"],
        "installation_address_state": address["state"],
        "installation_address_zipcode": address["zipcode"],
        "project_installation_address_id": f"9{project.project_id}",
        "project_date_sold": None,
        "project_date_scheduled_date": standing.start[:10] if standing.start else None,
        "project_date_completed_date": seed.get("completed"),
        "convertedProjectStartScheduledDate": _spaced(standing.start),
        "convertedProjectEndScheduledDate": _spaced(standing.end),
        "user_idata_user_id": tech_last or None,
        "user_idata_first_name": tech_first or None,
        "user_idata_last_name": tech_last or None,
        "service_time_duration_value": str(seed["hours"]),
        "service_time_duration_type": "hours",
        "customer_customer_id": project.customer_id,
        "customer_first_name": first,
        "customer_last_name": last,
        "customer_email": customer.get("email"),
        "customer_phone": customer.get("phone"),
        "client_client_id": project.client_id,
        "client_client_name": client["client_name"],
    }


def _spaced(moment: str | None) -> str | None:
    return moment.replace("T", " ") if moment else None


def business_hours(state: UpstreamState, client_id: str) -> Json:
    client = state.clients[client_id]
    return {
        "client_id": client_id,
        "timezone": state.fixture["timezone"],
        "workHours": [
            {"day": day, "is_working": True, "start": hours[0], "end": hours[1]}
            if hours
            else {"day": day, "is_working": False, "start": None, "end": None}
            for day, hours in client["hours"].items()
        ],
        "closed_dates": list(client.get("closed_dates") or ()),
    }


def weather(state: UpstreamState, location: str, now: datetime, days: int) -> Json:
    """A wttr-style forecast (`format=j1`) from today on; 404 for a place the fixture does not know."""
    city = _city(state, location)
    table = state.fixture["weather"].get(city) or {}
    today = now.date()
    forecast = [_weather_day(day, table) for day in (today + timedelta(days=n) for n in range(days))]
    noon = forecast[0]["hourly"][0]
    return {
        "current_condition": [
            {
                "temp_F": noon["tempF"],
                "weatherDesc": noon["weatherDesc"],
                "windspeedMiles": noon["windspeedMiles"],
                "chanceofrain": noon["chanceofrain"],
                "localObsDateTime": now.strftime("%Y-%m-%d %I:%M %p"),
            }
        ],
        "nearest_area": [{"areaName": [{"value": city}]}],
        "request": [{"type": "City", "query": city}],
        "weather": forecast,
    }


def _city(state: UpstreamState, location: str) -> str:
    """The fixture's city of a place as people write it: `port ellis`, `Port+Ellis`, `Brookhaven, FL 34901`."""
    wanted = " ".join(location.replace("+", " ").partition(",")[0].split()).casefold()
    cities: list[str] = [*state.fixture["weather"], *(str(p.seed["address"]["city"]) for p in state.projects.values())]
    for city in cities:
        if city.casefold() == wanted:
            return city
    raise not_found()


def _weather_day(day: date, table: Json) -> Json:
    condition, high, low, rain, wind = table.get(day.isoformat(), ORDINARY_WEATHER)
    hour = {
        "time": "1200",
        "tempF": str(high),
        "weatherDesc": [{"value": condition}],
        "chanceofrain": str(rain),
        "windspeedMiles": str(wind),
    }
    return {
        "date": day.isoformat(),
        "maxtempF": str(high),
        "mintempF": str(low),
        "avgtempF": str((high + low) // 2),
        "hourly": [hour],
    }
