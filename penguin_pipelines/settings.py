"""The only reader of the environment.

Here are the variables, their defaults and their checks, and the environment handed to child processes. What a
value is used for is not here: the local services that stand in for missing URLs are in `lib/services`,
connections in `resources.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penguin_pipelines.errors import SettingsError

PREFIX: Final = "PENGUIN_"
ENV_FILE: Final = ".env"

TIERS: Final = ("oltp", "content", "queue", "olap")
"""The four tiers in dependency order: sources first, the warehouse last."""

DATABASES: Final[Mapping[str, str]] = MappingProxyType({name: f"penguin_{name}" for name in (*TIERS, "dagster")})
"""Local database of each tier and of Dagster's own storage."""

_REQUIRED_OUTSIDE_LOCAL = (*(f"{tier}_url" for tier in TIERS), "redis_url", "dagster_url", "pseudonym_key")
_POSTGRES_FORM = "postgresql://user:password@host:port/database"
_REDIS_FORM = "redis://:password@host:port/0"
_SMTP_FORM = "smtp://user:password@host:587, or smtps://"
_SHORTEST_KEY = 16

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """One field per variable; the description is what `.env.example` says about it."""

    # An empty variable counts as absent: compose files and CI cannot unset one. .env may hold foreign lines.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    env: Literal["local", "staging", "production"] = Field(
        "local", description="local, staging or production. Outside local every URL is required."
    )
    home: Path = Field(
        Path(".penguin"),
        validate_default=True,
        description="Folder of local state: data of local services, logs.",
    )
    oltp_url: SecretStr | None = Field(None, description=f"OLTP database: {_POSTGRES_FORM}")
    content_url: SecretStr | None = Field(None, description=f"Content database: {_POSTGRES_FORM}")
    queue_url: SecretStr | None = Field(None, description=f"Queue database: {_POSTGRES_FORM}")
    olap_url: SecretStr | None = Field(None, description=f"Analytics warehouse: {_POSTGRES_FORM}")
    dagster_url: SecretStr | None = Field(None, description=f"Dagster's own storage: {_POSTGRES_FORM}")
    redis_url: SecretStr | None = Field(None, description=f"Redis or Valkey of the queue: {_REDIS_FORM}")
    pseudonym_key: SecretStr | None = Field(
        None,
        description=f"Key of the pseudonyms, at least {_SHORTEST_KEY} characters. Another key gives other "
        "pseudonyms. Made once and kept in PENGUIN_HOME when absent locally.",
    )
    postgres_port: Port | None = Field(None, description="Port of the local Postgres; any free one when absent.")
    redis_port: Port | None = Field(None, description="Port of the local Redis; any free one when absent.")
    ui_port: Port = Field(3000, description="Port of the Dagster UI.")
    postgres_bin: Path | None = Field(
        None, description="Folder of initdb, pg_ctl and postgres for the local Postgres, 15 or newer."
    )

    foreign_sources: str | None = Field(
        None,
        description="Sources whose schema is somebody else's (oltp, content, queue), separated by commas: they are "
        "read with their own login, which needs SELECT alone, and our migrations are not asked of them.",
    )

    ingest_chunk_mb: Annotated[int, Field(ge=1)] = Field(
        512, description="Megabytes of a source table that are read from one snapshot; larger ones are read in ranges."
    )
    ingest_readers: Annotated[int, Field(ge=1, le=32)] = Field(
        1, description="Ranges of a first read that are read at the same time, each over a connection of its own."
    )
    ingest_mb_per_second: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Megabytes a second that first reads in ranges may take from a source; no limit when absent."
    )

    alert_webhook_url: SecretStr | None = Field(
        None, description="Address that gets alerts of the queues as JSON by POST."
    )
    alert_slack_url: SecretStr | None = Field(None, description="Incoming webhook of Slack that gets alerts as text.")
    alert_smtp_url: SecretStr | None = Field(None, description=f"Mail server for alerts: {_SMTP_FORM}")
    alert_email_to: str | None = Field(None, description="Who gets alerts by mail; addresses separated by commas.")
    alert_email_from: str = Field("penguin@localhost", description="Sender of alerts by mail.")
    alert_rules: Path | None = Field(
        None, description="YAML file that changes limits of penguin_pipelines/lib/queue/rules.yml."
    )

    @field_validator("foreign_sources")
    @classmethod
    def _sources(cls, names: str | None) -> str | None:
        wrong = sorted(_listed(names) - {"oltp", "content", "queue"})
        if wrong:
            raise ValueError(f"names {', '.join(wrong)}; valid are oltp, content and queue")
        return names

    @field_validator("home", "postgres_bin", "alert_rules")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # Resolved once, so that a running server is recognised whichever way its folder is written.
        return path.expanduser().resolve() if path else None

    @field_validator("oltp_url", "content_url", "queue_url", "olap_url", "dagster_url")
    @classmethod
    def _postgres(cls, url: SecretStr | None) -> SecretStr | None:
        return _checked(url, ("postgresql://", "postgres://"), _POSTGRES_FORM)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: SecretStr | None) -> SecretStr | None:
        return _checked(url, ("redis://", "rediss://", "unix://"), _REDIS_FORM)

    @field_validator("alert_webhook_url", "alert_slack_url")
    @classmethod
    def _web(cls, url: SecretStr | None) -> SecretStr | None:
        return _checked(url, ("https://", "http://"), "https://host/path")

    @field_validator("alert_smtp_url")
    @classmethod
    def _smtp(cls, url: SecretStr | None) -> SecretStr | None:
        return _checked(url, ("smtp://", "smtps://"), _SMTP_FORM)

    @field_validator("pseudonym_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key and len(key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"is too short; it needs at least {_SHORTEST_KEY} characters")
        return key

    @property
    def foreign(self) -> frozenset[str]:
        """Sources that were not made by our migrations."""
        return _listed(self.foreign_sources)

    def url(self, name: str) -> str | None:
        """The URL given for a tier, `dagster`, `redis` or a channel of alerts, in clear; None when there is none."""
        secret: SecretStr | None = getattr(self, f"{name}_url")
        return secret.get_secret_value() if secret else None


def _listed(names: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (names or "").split(",") if name.strip())


def _checked(url: SecretStr | None, schemes: tuple[str, ...], form: str) -> SecretStr | None:
    text = url.get_secret_value() if url else None
    if text is not None and not any(text.startswith(scheme) and len(text) > len(scheme) for scheme in schemes):
        raise ValueError(f"is not a usable URL; write {form}")
    return url


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def load_settings() -> Settings:
    """The settings of this process, or one SettingsError that names everything wrong with them."""
    try:
        settings = Settings()  # pyright: ignore[reportCallIssue]  # every field has a default
    except ValidationError as error:
        # `from None`: pydantic's own report would print the secrets that it was given.
        raise SettingsError(" ".join(map(_sentence, error.errors(include_url=False)))) from None
    missing = [variable(f) for f in _REQUIRED_OUTSIDE_LOCAL if getattr(settings, f) is None]
    if settings.env != "local" and missing:
        raise SettingsError(
            f"PENGUIN_ENV is {settings.env}, where these variables are required and missing: "
            f"{', '.join(missing)}; set them, or set PENGUIN_ENV=local to use local services."
        )
    return settings


def _sentence(error: Any) -> str:
    field = str(error["loc"][0])
    if error["type"] == "value_error":  # from our own validators, which never repeat the value
        return f"{variable(field)} {error['ctx']['error']}."
    given = "" if "Secret" in str(Settings.model_fields[field].annotation) else f" is {error['input']!r}"
    if error["type"] == "literal_error":
        return f"{variable(field)}{given}; valid values are {error['ctx']['expected']}."
    wanted = "a number from 1 to 65535" if "port" in field else error["msg"].removeprefix("Input should be ")
    return f"{variable(field)}{given}; it must be {wanted}."


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a subprocess such as dbt or dagster: ours, `.env`, no telemetry, and the extras.

    `.env` and a relative PENGUIN_HOME are spelled out, because the child may run in another folder.
    """
    env_file = {k: v for k, v in dotenv_values(ENV_FILE).items() if k.startswith(PREFIX) and v is not None}
    merged = {**env_file, **os.environ}
    home = Path(merged.get(variable("home")) or ".penguin").expanduser().resolve()
    return {**merged, variable("home"): str(home), "DO_NOT_TRACK": "1", **extra}


@contextlib.contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables for a child of a library that hands on this process's environment and nothing else."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def environment_fields() -> Iterator[tuple[str, str, str]]:
    """Variable, default (empty when there is none) and description of every setting."""
    for name, field in Settings.model_fields.items():
        yield variable(name), "" if field.default is None else str(field.default), field.description or ""


def render_env_example() -> str:
    """The text of `.env.example`; every line is commented out, so a copy of it changes nothing."""
    head = "# Everything is optional for local use. Copy this file to .env and uncomment what you set.\n"
    return head + "".join(f"\n# {text}\n# {name}={default}\n" for name, default, text in environment_fields())
