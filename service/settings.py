"""Settings: ``VLM_GATE_*`` in the environment, or one TOML file. See docs/settings.md."""

from __future__ import annotations

import ipaddress
import os
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "VLM_GATE_"


class SettingsError(Exception):
    """A setting cannot be used. Names the variable and the mend."""


def _listed(value: Any) -> Any:
    """A list as the environment writes it: split at commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


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
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="port of /metrics; left out, that of the service"
    )
    metrics_slices: Listed = Field(
        default=(),
        max_length=64,
        description="metadata (name:value) whose decisions are counted apart",
    )
    allow_unauthenticated: bool = Field(
        default=False, description="listen on other than loopback, without keys"
    )
    api_keys_file: Path | None = Field(
        default=None, description="file of hashed API keys; vlm-gate keys makes it"
    )
    jwt_jwks: str | None = Field(
        default=None, description="path or https URL of the JWKS whose tokens are accepted"
    )
    jwt_issuer: str | None = Field(default=None, description="what a token's iss must say")
    jwt_audience: str | None = Field(default=None, description="what a token's aud must hold")
    cors_origins: Listed = Field(default=(), description="origins of web pages that may call")
    image_url_hosts: Listed = Field(
        default=(), description="host names that images may be fetched from, by https"
    )
    image_url_seconds: float = Field(
        default=5.0, gt=0, le=60, description="most time to fetch an image, redirects included"
    )
    model: str = Field(
        default_factory=lambda: embedded("models", "llava"),
        description="folder of the model, or its Hugging Face name",
    )
    bundle: Path = Field(
        default_factory=lambda: Path(embedded("bundles", "llava")),
        description="folder of the bundle: probe, policy and certificates",
    )
    policy: Path | None = Field(
        default=None, description="TOML file of the policy; by default the bundle's own"
    )
    shadow_bundle: Path | None = Field(
        default=None, description="folder of a candidate bundle that is scored beside"
    )
    shadow_policy: Path | None = Field(
        default=None, description="TOML file of a candidate policy that is scored beside"
    )
    engine: Literal["transformers", "vllm", "fake"] = Field(
        default="transformers", description="what runs the model"
    )
    vllm_quantization: str | None = Field(
        default=None, description="quantization of the weights by vLLM, such as fp8"
    )
    vllm_tensor_parallel_size: int = Field(
        default=1, ge=1, le=64, description="GPUs that share one model"
    )
    vllm_gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="share of a GPU's memory that vLLM takes"
    )
    vllm_max_model_len: int | None = Field(
        default=None, ge=1, description="most tokens of prompt and answer; left out, the model's"
    )
    vllm_max_num_seqs: int | None = Field(
        default=None, ge=1, description="most requests in one step; left out, vLLM's default"
    )
    vllm_enforce_eager: bool = Field(
        default=False, description="neither compile nor capture graphs: starts sooner, runs slower"
    )
    vllm_arguments: dict[str, Any] = Field(
        default_factory=dict, description="more arguments of vLLM, as one JSON object"
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
    max_held_bytes: int = Field(
        default=256 * 2**20,
        ge=2**20,
        description="bytes of bodies held until they are parsed; more get a 503",
    )
    max_held_bytes_per_caller: int = Field(
        default=64 * 2**20, ge=2**20, description="the same of one caller"
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
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="asked to end, still answer for so long while `/readyz` says 503",
    )
    engine_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="with no answer from a busy engine for so long, it is given up",
    )
    engine_exit_seconds: float = Field(
        default=20.0,
        ge=0,
        le=86_400,
        description="an engine that has failed or was given up for so long ends the process",
    )
    max_image_bytes: int = Field(
        default=12_000_000, ge=1024, description="largest image file; a larger one gets a 413"
    )
    max_pixels: int = Field(
        default=25_000_000,
        ge=1,
        description="most pixels of an image; more get a 413",
    )
    damaged_images: Literal["escalate", "refuse"] = Field(
        default="escalate",
        description="an image whose file is damaged: its answer is escalated, or it gets a 422",
    )
    decode_processes: int = Field(
        default=3,
        ge=0,
        le=64,
        description="processes that decode images, one at a time each; 0: threads in this one",
    )
    state_folder: Path = Field(
        default=Path("vlm-gate-state"),
        description="folder of the records' database, the signing key and the audit's secret",
    )
    tries_folder: Path = Field(
        default_factory=lambda: user_state_folder(),
        description="folder that counts what was certified on which data, beside each run's own",
    )
    records_url: str | None = Field(
        default=None,
        description="database of the records; by default SQLite in the state folder, empty: none",
    )
    records_prepared_statements: bool = Field(
        default=True,
        description="let PostgreSQL prepare statements; false behind a pooler of transactions",
    )
    records_strict: bool = Field(
        default=False, description="give an answer only once its record is committed"
    )
    records_keep_question: bool = Field(
        default=False, description="record the question's text, not only its hash"
    )
    records_key_file: Path | None = Field(
        default=None, description="Ed25519 key (PEM) that signs the records"
    )
    records_retention_days: int = Field(
        default=0, ge=0, le=36500, description="records older than this are deleted; 0 keeps all"
    )
    drift_window: int = Field(
        default=1000, ge=100, le=1_000_000, description="answers whose risks drift is measured over"
    )
    audit_rate: float = Field(
        default=0.0, ge=0, le=1, description="share of accepted answers that a person is to judge"
    )
    audit_rate_near_threshold: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share where the risk is over half of accept_below; by default the same",
    )
    audit_deadline_days: float = Field(
        default=14.0,
        ge=0,
        le=36500,
        description="audits that nobody judged by then count as wrong; 0: never",
    )
    void_needs_second_word: bool = Field(
        default=False,
        description="a certificate is void by words that a second reviewer confirmed; "
        "until then everything escalates",
    )
    review_capacity_per_hour: float = Field(
        default=0.0, ge=0, le=1e9, description="escalations that the reviewers can take; 0: unknown"
    )
    audit_secret_file: Path | None = Field(
        default=None, description="file of at least 16 random bytes that the audits are drawn with"
    )
    images_url: str = Field(
        default="", description="where images for review are kept; empty keeps none"
    )
    stream_hold: bool = Field(
        default=True, description="hold a streamed answer back until its decision is known"
    )
    idempotency_seconds: float = Field(
        default=600.0, gt=0, description="how long an answer given under an Idempotency-Key is kept"
    )
    batch_concurrency: int = Field(
        default=4, ge=1, le=256, description="lines of all batches worked on at once"
    )
    batch_lines: int = Field(default=1000, ge=1, le=100_000, description="most lines of one batch")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line written"
    )

    @property
    def max_body_bytes(self) -> int:
        """Largest request body: an image in base64, and room for the rest."""
        return self.max_image_bytes * 4 // 3 + 64 * 1024

    @property
    def records_database(self) -> str | None:
        """URL of the records' database, or None when no records are kept."""
        if self.records_url is None:
            return f"sqlite:///{self.state_folder / 'records.db'}"
        return self.records_url or None

    @property
    def records_key_path(self) -> Path:
        """File of the key that signs the records."""
        return self.records_key_file or self.state_folder / "signing-key.pem"

    @property
    def audit_secret_path(self) -> Path:
        """File of the secret that the audits are drawn with."""
        return self.audit_secret_file or self.state_folder / "audit-secret"

    @model_validator(mode="after")
    def _nothing_kept_without_records(self) -> Self:
        if self.records_database is None:
            for name in ("records_strict", "audit_rate", "images_url"):
                if getattr(self, name):
                    raise ValueError(
                        f"{PREFIX}{name.upper()} needs records, and {PREFIX}RECORDS_URL is empty; "
                        "name a database there"
                    )
        return self

    @model_validator(mode="after")
    def _near_is_more(self) -> Self:
        near = self.audit_rate_near_threshold
        if near is not None and not 0 < self.audit_rate <= near:
            raise ValueError(
                f"{PREFIX}AUDIT_RATE_NEAR_THRESHOLD is {near}; {PREFIX}AUDIT_RATE must be above 0 "
                "and at most that: every accepted answer needs a chance to be drawn"
            )
        return self

    @model_validator(mode="after")
    def _loopback_without_keys(self) -> Self:
        keys = self.api_keys_file is not None or self.jwt_jwks is not None
        if not keys and not self.allow_unauthenticated and not is_loopback(self.host):
            raise ValueError(
                f"{PREFIX}HOST is {self.host}, which others can reach, and there are no keys; set "
                f"{PREFIX}API_KEYS_FILE (vlm-gate keys create makes it), {PREFIX}HOST=127.0.0.1, "
                f"or {PREFIX}ALLOW_UNAUTHENTICATED=true where something in front authenticates"
            )
        return self

    @model_validator(mode="after")
    def _whole_and_safe(self) -> Self:
        jwt = (self.jwt_jwks, self.jwt_issuer, self.jwt_audience)
        if any(jwt) and not all(jwt):
            raise ValueError(
                f"{PREFIX}JWT_JWKS, {PREFIX}JWT_ISSUER and {PREFIX}JWT_AUDIENCE belong together; "
                "set all three or none"
            )
        if self.jwt_jwks is not None and self.jwt_jwks.lower().startswith("http://"):
            raise ValueError(f"{PREFIX}JWT_JWKS must be a file or an https URL")
        for origin in self.cors_origins:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?", origin):
                raise ValueError(
                    f"{PREFIX}CORS_ORIGINS: {origin!r} is no origin; write https://name, "
                    "and no wildcard"
                )
        for pair in self.metrics_slices:
            if not re.fullmatch(r"[^:]+:.+", pair):
                raise ValueError(
                    f"{PREFIX}METRICS_SLICES: {pair!r} has no colon; write name:value, such as "
                    "line:3"
                )
        for host in self.image_url_hosts:
            if not re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*", host):
                raise ValueError(
                    f"{PREFIX}IMAGE_URL_HOSTS: {host!r} is no host name; write whole names in "
                    "lower case, such as images.example.com, and no wildcard, port or address"
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


def user_state_folder() -> Path:
    """Where one person's programs keep what outlives a run (XDG base directories)."""
    told = os.environ.get("XDG_STATE_HOME")
    if told:
        return Path(told) / "vlm-gate"
    try:
        return Path.home() / ".local" / "state" / "vlm-gate"
    except RuntimeError:  # a user without a home, as containers have
        return Path("vlm-gate-state")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host: localhost or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
