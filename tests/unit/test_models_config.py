"""`models.yaml`: everything wrong in it is told at once, with its path and the fix, and no secret with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.routing.config import ModelsError, read

EXAMPLE = Path(__file__).parents[2] / "config" / "models.example.yaml"
WRONG = """
providers:
  gpt: {kind: openai, model: gpt-5}
  claude: {kind: anthropic, model: c, api_key_env: sk-this-is-a-key-and-no-name}
  x: {kind: opanai, model: y}
  y: {model: z}
  z: {kind: local, base_url: "http://h/v1", limits: {per_second: -1}, colour: 3}
  offline: {kind: ollama, model: m}
  BAD NAME: {kind: ollama, model: m}
routes:
  default:
    primary: gtp
    fallbacks: [{to: gpt, on: [throtle]}, {to: nobody, on: []}]
    canary: {to: nobody, percent: 120, rollback: {errors: 2, p95: 0.5, samples: 0}}
    shadow: {to: gpt}
    degraded: planner
tenants: {acme: gold}
route: other
budgets: {day_usd: 0}
"""


def problems(text: str, **environ: str) -> dict[str, str]:
    """Path -> what is said of it."""
    with pytest.raises(ModelsError) as caught:
        read(text, environ)
    return dict(caught.value.problems)


def test_every_fault_is_told_at_once() -> None:
    """Of the schema, of references, and of the environment."""
    found = problems(WRONG)
    assert set(found) == {
        "providers.gpt.api_key_env",
        "providers.claude.api_key_env",
        "providers.x",
        "providers.y",
        "providers.z.model",
        "providers.z.limits.per_second",
        "providers.z.colour",
        "providers.offline",
        "providers.BAD NAME",
        "routes.default.primary",
        "routes.default.fallbacks.0.on.0",
        "routes.default.fallbacks.1.on",
        "routes.default.fallbacks.1.to",
        "routes.default.canary.to",
        "routes.default.canary.percent",
        "routes.default.canary.rollback.errors",
        "routes.default.canary.rollback.p95",
        "routes.default.canary.rollback.samples",
        "routes.default.shadow.percent",
        "routes.default.degraded",
        "tenants.acme",
        "route",
        "budgets.day_usd",
    }
    assert found["routes.default.canary.percent"] == "120 is more than 100; give at most that"
    assert "OPENAI_API_KEY is not set" in found["providers.gpt.api_key_env"]
    assert "openai, local, ollama" in found["providers.x"]
    assert "there are gpt" in found["routes.default.primary"]


def test_a_key_in_the_place_of_its_name_is_not_repeated() -> None:
    """Somebody will do it; the log must not hold it."""
    providers = "providers: {a: {kind: anthropic, model: c, api_key_env: sk-ant-secret}}"
    found = problems(providers + "\nroutes: {default: {primary: a}}")
    assert "sk-ant-secret" not in str(found)
    assert "name it" in found["providers.a.api_key_env"]


def test_a_managed_agent_is_no_shadow() -> None:
    """It runs functions of its own, which nothing of ours can hold back."""
    managed = "{kind: bedrock_agent, agent_id: A, alias_id: B}"
    found = problems(f"providers: {{m: {managed}}}\nroutes: {{default: {{primary: m, shadow: {{to: m, percent: 1}}}}}}")
    assert set(found) == {"routes.default.shadow.to"}


def test_the_example_can_be_used_as_it_is() -> None:
    """It names one key."""
    models = read(EXAMPLE.read_text("utf-8"), {"OPENAI_API_KEY": "x"})
    assert models.routes["default"].fallbacks[0].on == ("throttle", "timeout", "unavailable", "context")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "the file"),
        ("[1]", "the file"),
        ("routes: {a: {primary: offline}", "line 1"),
        ("routes:\n  default: {primary: offline}\n  default: {primary: offline}", "line 3"),
        ("routes: {}", "routes"),
        ("route: 2024-13-45", "the file"),
        ("route: {{ TEMPLATE }}", "the file"),
        ("route: " + "[" * 2_000, "the file"),
    ],
)
def test_what_is_no_such_file_is_told(text: str, place: str) -> None:
    """With the line where there is one."""
    assert place in problems(text)
