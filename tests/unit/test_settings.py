"""What `settings.py` makes of an environment; the services behind the URLs are not started here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penguin_pipelines import settings
from penguin_pipelines.errors import SettingsError
from penguin_pipelines.settings import child_environment, load_settings, render_env_example

URL = "postgresql://u:s3cret@db/x"
KEY = "k" * 16


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith("PENGUIN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"PENGUIN_{name.upper()}", value)


def test_nothing_is_needed_locally(tmp_path: Path) -> None:
    loaded = load_settings()
    assert loaded.env == "local" and loaded.home == tmp_path / ".penguin" and loaded.ui_port == 3000
    assert loaded.url("oltp") is None


def test_production_names_every_missing_variable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, env="production", oltp_url=URL, queue_url="")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    text = str(raised.value)
    assert "OLTP" not in text
    for name in ("CONTENT_URL", "QUEUE_URL", "OLAP_URL", "REDIS_URL", "DAGSTER_URL", "PSEUDONYM_KEY"):
        assert f"PENGUIN_{name}" in text


def test_production_is_content_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {f"{name}_url": URL for name in settings.DATABASES}
    set_all(monkeypatch, env="production", redis_url="rediss://:x@r/0", pseudonym_key=KEY, **urls)
    assert load_settings().url("olap") == URL


def test_an_unknown_environment_is_told_with_the_valid_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, env="prod")
    with pytest.raises(SettingsError, match=r"PENGUIN_ENV is 'prod'.*'local', 'staging' or 'production'"):
        load_settings()


@pytest.mark.parametrize("port", ["many", "0", "65536"])
def test_an_impossible_port_names_its_variable_and_value(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    set_all(monkeypatch, ui_port=port)
    with pytest.raises(SettingsError, match=f"PENGUIN_UI_PORT is '?{port}'?; .* 1 to 65535"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("oltp_url", "mysql://u:s3cret@db/x"), ("redis_url", "s3cret"), ("pseudonym_key", "s3cret")],
)
def test_a_malformed_secret_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(SettingsError, match=f"PENGUIN_{name.upper()} is ") as raised:
        load_settings()
    assert "s3cret" not in str(raised.value) and raised.value.__suppress_context__


def test_printing_settings_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, oltp_url=URL, pseudonym_key="s3cret" * 3)
    assert "s3cret" not in repr(load_settings())


def test_an_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PENGUIN_UI_PORT=4000\nPENGUIN_REDIS_PORT=7000\nOTHER=x\n")
    set_all(monkeypatch, ui_port="5000")
    assert (load_settings().ui_port, load_settings().redis_port) == (5000, 7000)
    assert child_environment()["PENGUIN_REDIS_PORT"] == "7000"


def test_a_child_inherits_ours_without_telemetry_and_finds_the_same_home(tmp_path: Path) -> None:
    child = child_environment(EXTRA="1")
    assert child["EXTRA"] == child["DO_NOT_TRACK"] == "1"
    assert child["PATH"] == os.environ["PATH"] and child["PENGUIN_HOME"] == str(tmp_path / ".penguin")


def test_the_example_names_every_variable_and_sets_none() -> None:
    lines = render_env_example().splitlines()
    assert all(line.startswith("#") for line in lines if line)
    assert {f"# {name}={default}" for name, default, _ in settings.environment_fields()} <= set(lines)
    Path(".env").write_text(render_env_example())
    assert load_settings().url("oltp") is None
