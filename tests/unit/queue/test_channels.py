"""Where alerts go: from the environment to channels, and what the doctor says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from penguin_pipelines.errors import SettingsError
from penguin_pipelines.lib import doctor
from penguin_pipelines.lib.queue import notify
from penguin_pipelines.settings import Settings, load_settings


def settings(**values: str) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type, call-arg]


def test_channels_are_what_the_environment_names() -> None:
    assert notify.channels_of(settings()).names == []
    some = settings(alert_smtp_url="smtp://a:b@mail:587", alert_email_to="x@y.example, z@y.example")
    assert notify.channels_of(some).names == ["email"]
    assert notify.channels_of(some).recipients == ("x@y.example", "z@y.example")
    assert notify.channels_of(settings(alert_smtp_url="smtp://mail")).names == []
    assert notify.channels_of(settings(alert_slack_url="https://hooks.example/a")).names == ["slack"]


def test_an_address_that_cannot_be_used_is_named_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENGUIN_ALERT_WEBHOOK_URL", "ftp://very-secret")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "PENGUIN_ALERT_WEBHOOK_URL" in str(raised.value) and "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({"env": "local"}, "ok"),
        ({"env": "production"}, "warning"),
        ({"env": "production", "alert_webhook_url": "https://a.example/b"}, "ok"),
    ],
)
def test_the_doctor_warns_where_alerts_of_production_go_nowhere(values: dict[str, str], level: str) -> None:
    (finding,) = doctor._alerts(settings(**values))
    assert finding.level == level
    assert ("PENGUIN_ALERT_WEBHOOK_URL" in finding.remedy) == (level == "warning")


def test_the_doctor_finds_rules_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text("every_queue: {pendin: 1}")
    faults = [f for f in doctor._alerts(settings(alert_rules=str(path))) if f.level == "fault"]
    assert len(faults) == 1 and "pendin" in faults[0].text
