"""`outcrop models …`: the configured models; what they are said to be able to do, and what they really do."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agent.errors import ModelError
    from agent.providers.base import Provider
    from agent.providers.examination import Examination
    from backend.routing.models import Models

PROBE_S = 150.0

app = typer.Typer(
    help="The configured models: what they are said to be able to do, and what they really do.",
    no_args_is_help=True,
)
Json = Annotated[bool, typer.Option("--json", help="JSON in place of text")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show all providers with what is assumed of them, and the routes over them. Asks nobody."""
    sys.exit(asyncio.run(_with_models(lambda models: _list(models, as_json))))


@app.command()
def probe(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="only these providers")] = None,
    calls: Annotated[
        bool, typer.Option(help="make two small calls, which cost some hundred tokens, and look at what comes")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check that each model is there, takes the key and does what is assumed of it. Exits with 1 if one does not."""
    sys.exit(asyncio.run(_with_models(lambda models: _probe(models, names or [], calls, as_json))))


async def _with_models(work: Any) -> int:
    """Run `work` on the configured models; 2 when they cannot be used, with every reason."""
    from backend.agent_folder import load_agent
    from backend.app import make_models
    from backend.cli.serve import complain
    from backend.settings import SettingsError, load_settings
    from tools.breaker import Alone

    try:
        settings = load_settings()
        models = make_models(settings, load_agent(settings), Alone())
    except SettingsError as error:
        complain("The configuration cannot be used:", *str(error).splitlines())
        return 2
    try:
        code: int = await work(models)
        return code
    finally:
        await models.close()


# --- list -----------------------------------------------------------------------------------------------------------


async def _list(models: Models, as_json: bool) -> int:
    providers = [candidate.provider for candidate in models.providers().values()]
    routes = models.router.models.routes
    if as_json:
        body = {
            "providers": [
                {"name": p.name, "kind": p.kind, "model": p.model, "capabilities": asdict(p.capabilities)}
                for p in providers
            ],
            "routes": {name: route.model_dump(mode="json") for name, route in routes.items()},
        }
        print(json.dumps(body, indent=2))
        return 0
    for provider in providers:
        print(f"{provider.name}  {provider.kind}  {provider.model}")
        print(f"    {_capabilities(provider)}")
        print(f"    {_price(models, provider.name)}")
    print("offline  the planner; no language model, needs nothing")
    print()
    for name, route in routes.items():
        order = [route.primary, *(f"{each.to} on {', '.join(each.on)}" for each in route.fallbacks)]
        print(f"route {name}: {'; then '.join(order)}")
        if route.canary:
            print(f"    canary {route.canary.to}, {route.canary.percent:g} %")
        if route.shadow:
            print(f"    shadow {route.shadow.to}, {route.shadow.percent:g} %")
    return 0


def _price(models: Models, name: str) -> str:
    price = models.described.prices.known(models.router.models.providers[name])
    if price is None:
        return "its price is not known, so it counts as nothing; add it to a copy of the price file (PRICES_FILE)"
    if not price.input_usd and not price.output_usd:
        return "costs nothing"
    return f"{price.input_usd:g} US dollars per million tokens read, {price.output_usd:g} written"


def _capabilities(provider: Provider) -> str:
    record = provider.capabilities
    flags = [each.name for each in fields(record) if getattr(record, each.name) is True]
    missing = [each.name for each in fields(record) if getattr(record, each.name) is False]
    numbers = f"reads {record.max_context_tokens:,} tokens, writes {record.max_output_tokens:,}"
    return f"{', '.join(flags)}; {numbers}" + (f"; not: {', '.join(missing)}" if missing else "")


# --- probe ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one provider. `fix` is empty when it is well."""

    name: str
    model: str
    ok: bool
    state: str
    fix: str = ""
    examination: Examination | None = None


async def _probe(models: Models, names: list[str], calls: bool, as_json: bool) -> int:
    from backend.cli.serve import complain

    providers = {name: candidate.provider for name, candidate in models.providers().items()}
    if unknown := [name for name in names if name not in providers]:
        complain(f"There is no provider {', '.join(unknown)}; there are {', '.join(providers) or 'none'}.")
        return 2
    chosen = [provider for name, provider in providers.items() if not names or name in names]
    results = list(await asyncio.gather(*(_examined(provider, calls) for provider in chosen)))
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    elif not results:
        print("No model is configured: the offline planner answers. LLM_PROVIDER or MODELS_FILE names one.")
    else:
        for result in results:
            _print(result)
    return 0 if all(result.ok for result in results) else 1


async def _examined(provider: Provider, calls: bool) -> Result:
    from agent.errors import ModelError
    from agent.providers.examination import examine

    try:
        async with asyncio.timeout(PROBE_S):
            found = await provider.probe() if provider.probe else None
            if found is not None and not found.ok:
                return Result(provider.name, provider.model, False, found.cause, found.fix)
            state = found.cause if found is not None else "can only be asked"
            if not calls:
                return Result(provider.name, provider.model, True, state)
            return Result(provider.name, provider.model, True, state, "", await examine(provider))
    except TimeoutError:
        return Result(provider.name, provider.model, False, f"no answer within {PROBE_S:.0f} s", "Look at its server.")
    except ModelError as error:
        return Result(provider.name, provider.model, False, str(error), _fix(error))


def _fix(error: ModelError) -> str:
    """What an operator can do; hints of rejections are written for them."""
    from agent.errors import ModelBusy, ModelRejected

    if isinstance(error, ModelBusy):
        return "Wait a moment and try again; if it stays so, raise the quota there or set `limits`."
    return error.user_hint if isinstance(error, ModelRejected) else "Look at its server, then try again."


def _print(result: Result) -> None:
    print(f"{'ok  ' if result.ok else 'FAIL'}  {result.name} ({result.model}): {result.state}")
    if result.fix:
        print(f"      -> {result.fix}")
    if result.examination is None:
        return
    seen = result.examination
    print(f"      first token after {seen.first_token_s:.2f} s, twenty lines after {seen.duration_s:.2f} s")
    for each in seen.seen:
        shown = {True: "yes", False: "no", None: "did not show"}[each.seen]
        print(f"      {each.capability}: {shown}" + (" (assumed: " + ("yes" if each.recorded else "no") + ")"))
    if wrong := {each.capability: each.seen for each in seen.seen if each.differs}:
        written = ", ".join(f"{key}: {str(value).lower()}" for key, value in wrong.items())
        print(f"      -> In models.yaml, providers.{result.name}: capabilities: {{{written}}}")
