# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""The application's environment: addresses that have passwords in them, the names that the application asks for, and what it gets as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.checking_types import FLAGS, found_kind
from ansible_collections.senex.trader.plugins.filter.quoting import env_file, env_name, quote_url, value_text
from ansible_collections.senex.trader.plugins.module_utils.host import field_key
from ansible_collections.senex.trader.plugins.plugin_utils.yaml_source import misread

MOUNTED = "/run/secrets/"
STORED = "environment_"  # how their names begin in Podman's store; ENVIRONMENT of release_steps.py
KEPT = "FIELD_ENCRYPTION_KEY"
LIBRARIES = {"DJANGO_SETTINGS_MODULE": "Django", "PGSSLMODE": "libpq", "PGSSLROOTCERT": "libpq"}  # they know no other name and no file
UNITS = ("INSTANCE", "PORT")
OF_UNIT = "each unit sets it itself"
LONG = 8  # characters of a secret that another value contains by more than chance


def database_url(parts: Mapping[str, Any]) -> str:
    """PostgreSQL's address in one text, as libpq, dj-database-url and django-environ take it apart again.

    Without TLS nothing is verified, so no authority is named.
    """
    login = f"{quote_url(parts['user'])}:{quote_url(parts['password'])}"
    query = {"sslmode": str(parts["sslmode"])}
    if query["sslmode"] != "disable" and parts.get("ca"):
        query["sslrootcert"] = str(parts["ca"])
    words = "&".join(f"{key}={quote(value, safe='/')}" for key, value in query.items())
    return f"postgresql://{login}@{url_host(parts['host'])}:{int(parts['port'])}/{quote_url(parts['name'])}?{words}"


def url_host(host: Any) -> str:
    """A server in an address: an IPv6 address in brackets, for its colons are no port's."""
    return f"[{host}]" if ":" in str(host) else str(host)


# Of brokers that an application may have in the place of Redis: what waits for a connection waits for one to this port
PORTS = {"amqp": 5672, "amqps": 5671, "pyamqp": 5672, "sentinel": 26379}


def url_server(url: Any, port: int) -> list:
    """Server and port of an address, the first one of several; nothing else of it, for a password may be in it."""
    try:
        parts = urlsplit(value_text("", url).split(";")[0])
        return [parts.hostname or "", parts.port or PORTS.get(parts.scheme, port)]
    except ValueError:
        raise AnsibleFilterError("an address of the application's environment cannot be taken apart; quote its user and password (quote_url)") from None


@dataclass(frozen=True)
class Variable:
    """One variable: what it is called here, what the application calls it, and its value."""

    name: str
    final: str
    value: Any
    extra: bool = False

    @property
    def text(self) -> str:
        return value_text(self.name, self.value)


def _variables(variables: Mapping[str, Any], extra: Mapping[str, Any], names: Mapping[str, Any]) -> list[Variable]:
    """All that are given. One of the inventory's takes the place of one of the same name."""
    own = [Variable(name, str(names.get(name, name) or ""), value) for name, value in variables.items()]
    there = [Variable(one.final, one.final, extra[one.final], True) if one.final in extra else one for one in own if one.final]
    replaced = {one.name for one in there if one.extra}
    return there + [Variable(name, name, value, True) for name, value in extra.items() if name not in replaced]


def _wants_all(files: Any) -> bool:
    """Whether every secret is to be a file. -e gives texts."""
    return str(files).lower() in ("true", "yes", "on", "y", "t", "1")


def _as_files(given: Sequence[Variable], files: Any, secrets: Sequence[str], words: Sequence[Any] = ()) -> list[Variable]:
    """Those that the application gets as files. Not an empty one: Podman keeps no empty secret."""
    if isinstance(files, Sequence) and not isinstance(files, str):
        wanted = [one for one in given if one.name in files]
    elif _wants_all(files):
        told = [text for text in [*(one.text for one in given if one.name in secrets), *map(str, words)] if len(text) >= LONG]
        told += [quote_url(text) for text in told]  # as an address has it
        wanted = [one for one in given if one.name in secrets or one.extra and any(word in one.text for word in told)]
    else:
        wanted = []
    return [one for one in wanted if one.text and one.name not in LIBRARIES]


def application_environment(
    variables: Mapping[str, Any], extra: Mapping[str, Any], names: Mapping[str, Any], files: Any, secrets: Sequence[str], words: Sequence[Any] = ()
) -> dict:
    """The environment file of the application's containers, the secrets that they get as files, and where each variable is to be found in them.

    `secrets` are names of the collection's, `words` are secrets that the inventory's variables may contain.
    """
    given = _variables(variables, extra, names)
    mounted = _as_files(given, files, secrets, words)
    written = {one.final: one.value for one in given if one not in mounted} | {f"{one.final}_FILE": MOUNTED + one.final for one in mounted}
    text = env_file(written)
    key = next((one for one in given if one.name == KEPT), None)
    keys = [word for word in value_text(KEPT, variables.get(KEPT)).split(",") if word]
    if keys and (key is None or key.final != KEPT or key in mounted):
        text += field_key.mark(KEPT, keys)
    return {
        "file": text,
        "secrets": [{"name": STORED + one.final, "value": one.text} for one in mounted],
        "mounts": [f"{STORED}{one.final},type=mount,target={MOUNTED}{one.final}" for one in mounted],
        "places": {one.name: {"file": MOUNTED + one.final} if one in mounted else {"variable": one.final} for one in given},
    }


def environment_problems(variables: Any, extra: Any, names: Any, files: Any, secrets: Sequence[str], words: Sequence[Any] = ()) -> list[str]:
    """What keeps the application's environment from being made, or from holding what was meant. `secrets`, `words`: as it is made with."""
    if not isinstance(extra, Mapping):
        return [f"senex_extra_environment: is {found_kind(extra)}, and must be a dictionary of names and values"]
    if problems := _names_problems(variables, extra, names) or _files_problems(variables, extra, names, files, secrets, words):
        return problems
    mounted = _as_files([one for one in _variables(variables, extra, names) if _spelt(one)], files, secrets, words)
    problems = [f"senex_extra_environment.{name}: {OF_UNIT}; take it out" for name in UNITS if name in extra]
    for one in _variables(variables, extra, names):
        title = f"senex_extra_environment.{one.name}" if one.extra else one.name
        items = one.value if isinstance(one.value, (list, tuple)) else [one.value]
        problems += [f"{title}: {misread(item)}" for item in items if one.extra and misread(item)][:1]
        try:
            env_file({one.name: one.value if one not in mounted else ""})
        except AnsibleFilterError as problem:
            problems.append(f"{title}: {str(problem).partition(': ')[2]}")
    return problems


def _spelt(one: Variable) -> bool:
    try:
        return one.text is not None
    except AnsibleFilterError:
        return False


def _misnamed(name: Any) -> str:
    try:
        env_name(name)
    except AnsibleFilterError as problem:
        return str(problem).partition(": ")[2]
    return ""


def _names_problems(variables: Mapping[str, Any], extra: Mapping[str, Any], names: Mapping[str, Any]) -> list[str]:
    """What is wrong with senex_environment_names."""
    return [f"senex_environment_names{line}" for line in _names_lines(variables, extra, names)]


def _names_lines(variables: Mapping[str, Any], extra: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[str]:
    for name, value in names.items():
        final = str(value or "")
        if name not in variables:
            unknown = f"there is no such variable; there are {', '.join(sorted(variables))}"
            yield f".{name}: {OF_UNIT if name in UNITS else unknown}"
        elif name in LIBRARIES and (final or name == "DJANGO_SETTINGS_MODULE"):
            yield f".{name}: {LIBRARIES[name]} reads it under this name; take the line out"
        elif final and (line := _misnamed(final)):
            yield f".{name}: {final} is {line}"
        elif final in UNITS:
            yield f".{name}: {final} is set by each unit; choose another name"
        elif final in extra and final != name:
            yield f".{name}: {final} is in senex_extra_environment too; take it out of one of them"
    finals = Counter(final for name in variables if (final := str(names.get(name, name) or "")))
    for final in [final for final, count in finals.items() if count > 1]:
        both = [name for name in variables if str(names.get(name, name) or "") == final]
        yield f": {', '.join(both)} would all be {final}; give each a name of its own"


def _files_problems(
    variables: Mapping[str, Any], extra: Mapping[str, Any], names: Mapping[str, Any], files: Any, secrets: Sequence[str], words: Sequence[Any]
) -> list[str]:
    """What is wrong with senex_secret_files."""
    known = {*variables, *extra}
    if isinstance(files, Sequence) and not isinstance(files, str):
        renamed = {str(final): name for name, final in names.items()}
        for name in files:
            if not isinstance(name, str):
                return [f"senex_secret_files: one of it is {found_kind(name)}, and each must be the name of a variable"]
            if name in LIBRARIES:
                return [f"senex_secret_files: {LIBRARIES[name]} reads {name} itself, and no file; take it out"]
            if name not in known and name not in secrets:
                here = f"; write {renamed[name]}, as it is called here" if name in renamed else f"; there are {', '.join(sorted(known))}"
                return [f"senex_secret_files: {name} is no variable of the application{here}"]
            if name not in extra and name in names and not names[name]:
                return [f"senex_secret_files: {name} is not given at all (senex_environment_names); take it out of one of them"]
    elif str(files).lower() not in FLAGS:
        return [f"senex_secret_files: is {found_kind(files)}, and must be a list of names, or true for all secrets"]
    given = [one for one in _variables(variables, extra, names) if _spelt(one)]
    finals = {one.final for one in given}
    clashes = [one for one in _as_files(given, files, secrets, words) if f"{one.final}_FILE" in finals]
    return [f"senex_secret_files: {one.final}_FILE is a variable of its own already; take {one.name} out of the list, or that variable" for one in clashes]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "application_environment": application_environment,
            "database_url": database_url,
            "environment_problems": environment_problems,
            "url_host": url_host,
            "url_server": url_server,
        }
