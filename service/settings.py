"""Settings: ``VLM_GATE_*`` in the environment, or one TOML file. See docs/settings.md."""

from __future__ import annotations

import ipaddress
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "VLM_GATE_"


class SettingsError(Exception):
    """A setting cannot be used. Names the variable and the mend."""


@cache
def embedded(*parts: str) -> str:
    """Path of something that ships inside the ``testbed`` package."""
    return str(files("testbed").joinpath(*parts))


class Settings(BaseSettings):
    """How the service runs. The environment wins over the TOML file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        description="port to listen on; 0 takes a free one",
    )
    allow_unauthenticated: bool = Field(
        default=False, description="listen on other than loopback, without keys"
    )
    model: str = Field(
        default_factory=lambda: embedded("models", "llava"),
        description="folder of the model, or its Hugging Face name",
    )
    bundle: Path = Field(
        default_factory=lambda: Path(embedded("bundles", "llava")),
        description="folder of the bundle: probe, policy and certificates",
    )
    engine: Literal["transformers", "fake"] = Field(
        default="transformers", description="what runs the model"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where the model runs",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="arithmetic of the model; `auto` takes the bundle's"
    )
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="`shadow` decides and counts, but nobody is to act on it"
    )
    max_inflight: int = Field(default=32, ge=1, le=4096, description="requests worked on at once")
    max_queue: int = Field(
        default=64,
        ge=0,
        le=65536,
        description="requests that may wait; more get a 503",
    )
    deadline_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="a request that takes longer gets a 504"
    )
    quota_per_second: float = Field(
        default=0.0, ge=0, le=1e6, description="requests per second of one caller; 0 sets no limit"
    )
    quota_burst: int = Field(
        default=20, ge=1, le=1_000_000, description="requests of one caller at once after a pause"
    )
    engine_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="with no answer from a busy engine for so long, it is given up",
    )
    max_image_bytes: int = Field(
        default=12_000_000, ge=1024, description="largest image file; a larger one gets a 413"
    )
    max_pixels: int = Field(
        default=25_000_000,
        ge=1,
        description="most pixels of an image; more get a 413",
    )
    decode_threads: int = Field(default=2, ge=1, le=64, description="images decoded at once")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line written"
    )

    @property
    def max_body_bytes(self) -> int:
        """Largest request body: an image in base64, and room for the rest."""
        return self.max_image_bytes * 4 // 3 + 64 * 1024

    @model_validator(mode="after")
    def _loopback_without_keys(self) -> Self:
        if not self.allow_unauthenticated and not _is_loopback(self.host):
            raise ValueError(
                f"{PREFIX}HOST is {self.host}, which others can reach, and this service checks no "
                f"keys yet; set {PREFIX}HOST=127.0.0.1, or {PREFIX}ALLOW_UNAUTHENTICATED=true "
                "where something in front of it authenticates"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file that VLM_GATE_CONFIG names."""
        config = os.environ.get(f"{PREFIX}CONFIG")
        toml = () if config is None else (TomlConfigSettingsSource(settings_cls, Path(config)),)
        return (init_settings, env_settings, *toml)


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a value cannot be used, a name is unknown, or the TOML file cannot be read.
    """
    config = os.environ.get(f"{PREFIX}CONFIG")
    if config is not None and not Path(config).is_file():
        raise SettingsError(f"{PREFIX}CONFIG: there is no file {config}; correct the path")
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"{unknown[0]} is not a setting; see docs/settings.md for their names")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper() if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}: {message}" if name else message) from error
    except ValueError as error:  # tomllib
        raise SettingsError(f"{PREFIX}CONFIG: {config} is not TOML: {error}") from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
