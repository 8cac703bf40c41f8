"""Configuration: every mistake at once, each with its key and its fix; nothing but loopback without identities."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.settings import Settings, SettingsError, is_loopback, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key in Settings.model_fields:
        monkeypatch.delenv(key.upper(), raising=False)


def test_defaults_need_nothing() -> None:
    """Offline, embedded, on loopback."""
    settings = load_settings()
    assert (settings.llm_provider, settings.host, settings.port) == ("offline", "127.0.0.1", 8000)
    assert settings.database_url is None


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`.env` is read, and unknown keys in it are somebody else's."""
    (tmp_path / ".env").write_text("PORT=9000\nTENANT=acme\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("PORT", "9100")
    settings = load_settings()
    assert (settings.port, settings.tenant) == (9100, "acme")


def test_all_mistakes_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a key."""
    for key, value in {"PORT": "99999", "DATABASE_URL": "mysql://x", "LLM_API_URL": "x", "AUTH_MODE": "odd"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError) as wrong:
        load_settings()
    assert [key for key, _ in wrong.value.problems] == ["LLM_API_URL", "DATABASE_URL", "PORT", "AUTH_MODE"]


def test_the_key_of_existing_deployments_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY when LLM_API_KEY is not set; it shows in no representation."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings = load_settings(llm_provider="openai", llm_model="m")
    assert settings.api_key == "sk-secret"
    assert "sk-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("192.168.0.4", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    """Names that merely begin so are not."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://127.0.0.1:9360", 9360), ("http://localhost:9360/", 9360)],
)
def test_the_admin_address_places_our_own_simulator(url: str, port: int) -> None:
    """With or without a secret of one's own."""
    assert load_settings(pf360_admin_url=url).simulator_port == port


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.7:9360", "https://127.0.0.1:9360", "http://127.0.0.1", "http://127.0.0.1:9/x", "http://a:b:c"],
)
def test_our_own_simulator_is_on_this_machine(url: str) -> None:
    """Any other address needs PF360_API_URL."""
    with pytest.raises(SettingsError, match="PF360_ADMIN_URL: says"):
        load_settings(pf360_admin_url=url)
