"""The configuration file: its schema, and one clear sentence for whatever does not fit it."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass

CONFIGURATION = "/etc/senex-trader/watchdog.json"
SECRETS = "/etc/senex-trader/watchdog.secrets.json"
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a set of keys"}


class ConfigError(Exception):
    """The file does not fit the schema; the message names the key."""


def number(default: float, least: float, unit: str):
    """A field with a lower bound."""
    return field(default=default, metadata={"least": least, "unit": unit})


def choice(default: str, *allowed: str):
    """A field with few values."""
    return field(default=default, metadata={"allowed": allowed})


@dataclass(frozen=True)
class Probe:
    """How the fast probes ask."""

    interval: float = number(5, 1, "seconds")
    timeout: float = number(4, 0.5, "seconds")
    failures: int = number(3, 1, "failures in a row")
    dns_interval: float = number(60, 5, "seconds")
    slow_interval: float = number(30, 5, "seconds")


@dataclass(frozen=True)
class Restart:
    """How often a part may be restarted."""

    pause: float = number(300, 0, "seconds")
    per_hour: int = number(3, 0, "restarts")
    timeout: float = number(180, 10, "seconds")


@dataclass(frozen=True)
class Instance:
    """One web instance at its port on the host."""

    unit: str
    address: str
    port: int


@dataclass(frozen=True)
class Web:
    """The web instances of this host."""

    instances: list[Instance]
    domain: str
    alive_path: str = "/health/simple/"
    ready_path: str = "/health/"


@dataclass(frozen=True)
class Public:
    """nginx of this host, as the world sees it."""

    domain: str
    address: str = "127.0.0.1"
    port: int = 443
    path: str = "/health/simple/"


@dataclass(frozen=True)
class Database:
    """PostgreSQL in its container on this host."""

    user: str
    database: str
    container: str
    superuser: str = "postgres"


@dataclass(frozen=True)
class Elsewhere:
    """A server that is somebody else's, and what that means."""

    what: str
    host: str
    port: int
    says: str


@dataclass(frozen=True)
class Pooler:
    """PgBouncer on this host, and the environment of what goes past it."""

    environment: str


@dataclass(frozen=True)
class Broker:
    """Redis in its container on this host."""

    queues: list[str]
    broker_database: int = 2
    queue_limit: int = number(100, 1, "tasks")
    visibility_timeout: float = number(43200, 1, "seconds")
    container: str = "redis"


@dataclass(frozen=True)
class Limits:
    """From where on a reading is worth a word."""

    disk_warn: float = number(80, 1, "percent")
    disk_fail: float = number(90, 1, "percent")
    memory_warn: float = number(10, 0, "percent free")
    certificate_warn_share: float = number(25, 0, "percent of a certificate's life left")
    certificate_fail_share: float = number(10, 0, "percent of a certificate's life left")
    certificate_warn: float = number(21, 0, "days")
    certificate_fail: float = number(7, 0, "days")
    nginx_errors: int = number(10, 1, "errors")
    beat_silence: float = number(900, 60, "seconds")
    wal_lag: float = number(300, 1, "seconds")
    wal_kept: float = number(2048, 64, "MB")
    image_age: float = number(120, 1, "days")


@dataclass(frozen=True)
class Mail:
    """Where mail goes, and by which server."""

    to: list[str]
    sender: str
    host: str
    port: int = 587
    security: str = choice("starttls", "starttls", "tls", "none")
    user: str = ""
    ca_file: str = ""
    timeout: float = number(20, 1, "seconds")


@dataclass(frozen=True)
class Webhook:
    """How the webhook is told; its address is a secret."""

    format: str = choice("json", "json", "slack")
    ca_file: str = ""
    timeout: float = number(10, 1, "seconds")


@dataclass(frozen=True)
class Notify:
    """When and to whom things are said."""

    digest: float = number(30, 0, "seconds")
    gap: float = number(60, 0, "seconds")
    per_hour: int = number(6, 1, "messages")
    reminder: float = number(86400, 60, "seconds")
    retry: float = number(15, 1, "seconds")
    mail: Mail | None = None
    webhook: Webhook | None = None


@dataclass(frozen=True)
class Config:
    """All settings of the watchdog, as its configuration file has them."""

    host: str
    environment: str
    user: str
    home: str
    user_units: list[str]
    system_units: list[str]
    disks: list[str]
    certificates: list[str]
    components: list[str]
    jobs: list[str]
    jobs_of_others: list[str]
    probe: Probe = field(default_factory=Probe)
    restart: Restart = field(default_factory=Restart)
    limits: Limits = field(default_factory=Limits)
    notify: Notify = field(default_factory=Notify)
    heartbeat_interval: float = number(60, 5, "seconds")
    image_of: list[str] = field(default_factory=list)  # units of the application's image
    network: str = ""
    manage: list[str] = field(default_factory=lambda: ["manage"])
    web: Web | None = None
    public: Public | None = None
    database: Database | None = None
    broker: Broker | None = None
    pooler: Pooler | None = None
    elsewhere: list[Elsewhere] = field(default_factory=list)
    beat: str = ""
    metrics: str = ""


@dataclass(frozen=True)
class Secrets:
    """What only root may read."""

    smtp_password: str = ""
    webhook_url: str = ""
    heartbeat_url: str = ""


def _value(kind, value, where: str, about: typing.Mapping):
    """A value as the schema has it, or Wrong."""
    if typing.get_origin(kind) is types.UnionType:
        return None if value is None else _value(next(one for one in typing.get_args(kind) if one is not type(None)), value, where, about)
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: {value!r} is no list")
        return [_value(typing.get_args(kind)[0], one, f"{where}[{place}]", {}) for place, one in enumerate(value)]
    if is_dataclass(kind):
        return build(kind, value, where)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        unit = f" ({about['unit']})" if "unit" in about else ""
        raise ConfigError(f"{where}: {value!r} is not {WORDS[kind]}{unit}")
    if "least" in about and value < about["least"]:
        raise ConfigError(f"{where}: {value:g} {about['unit']} is too little; it must be {about['least']} or more")
    if "allowed" in about and value not in about["allowed"]:
        raise ConfigError(f"{where}: {value!r} is unknown; it must be one of {', '.join(about['allowed'])}")
    return value


def build(kind, data, where: str = ""):
    """A dataclass from what JSON held."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where or 'the file'}: {data!r} is no set of keys")
    hints, known = typing.get_type_hints(kind), {one.name: one for one in fields(kind)}
    prefix = f"{where}." if where else ""
    for name in data:
        if name not in known:
            raise ConfigError(f"{prefix}{name}: no such key; known here are {', '.join(known)}")
    for name, one in known.items():
        if name not in data and one.default is MISSING and one.default_factory is MISSING:
            raise ConfigError(f"{prefix}{name}: is missing")
    return kind(**{name: _value(hints[name], value, f"{prefix}{name}", known[name].metadata) for name, value in data.items()})


def read(path: str, kind=Config):
    """The file as an object; Wrong names file and key."""
    try:
        with open(path, encoding="utf-8") as handle:
            found = build(kind, json.load(handle))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: line {error.lineno} is no JSON: {error.msg}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return found
