# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with the inputs of an environment, said once and by name."""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.sizing import to_megabytes
from ansible_collections.senex.trader.plugins.lookup.component_ports import private_address
from ansible_collections.senex.trader.plugins.plugin_utils.components import AT_MOST_ONE, EXACTLY_ONE, ONE_OR_MORE, elsewhere_of, every_group
from ansible_collections.senex.trader.plugins.plugin_utils.yaml_source import misread

PLACEHOLDER = re.compile(r"CHANGE_?ME|your-domain\.com", re.IGNORECASE)
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"({LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]")
REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*")
TAG = re.compile(r"sha256:[0-9a-f]{64}|[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

# Names that stand in examples, and that somebody else's site has
PLACEHOLDER_DOMAIN = re.compile(r"(^|\.)(example\.(com|net|org)|your-?(own-?)?domain(\..*)?|mydomain\..*|domain\.(com|tld)|change-?me(\..*)?)$")


def _is_domain(value: str) -> bool:
    return bool(DOMAIN.fullmatch(value)) and len(value) <= 253


def _domain(value: str) -> str | None:
    return None if _is_domain(value) else f"{value!r} is no domain name; write one such as www.example.com"


def domain_problems(values: Sequence[Any]) -> list[str]:
    """Those that are no domain names."""
    return [str(value) for value in values if not _is_domain(str(value))]


def domain_placeholders(values: Sequence[Any]) -> list[str]:
    """Those that stand for a name."""
    return [str(value) for value in values if PLACEHOLDER_DOMAIN.search(str(value))]


def _registry(value: str) -> str | None:
    good = "write one such as registry.example.com/team, with no https:// and no tag"
    return None if REGISTRY.fullmatch(value) else f"{value!r} is no registry; {good}"


def _tag(value: str) -> str | None:
    if value == "latest":
        return "'latest' is not a release; write a fixed tag or a digest (sha256:...)"
    return None if TAG.fullmatch(value) else f"{value!r} is neither a tag nor a digest (sha256: and 64 hexadecimal digits)"


# A name, or an IPv6 address, which has colons that are no port's
SERVER = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")


def _server(value: str) -> str | None:
    good = "write its name or address alone, such as mail.example.com, with no smtp:// and no port"
    return None if SERVER.fullmatch(value) else f"{value!r} is no server; {good}"


def _text(value: str) -> str | None:
    return None


def _secret(value: str) -> str | None:
    if "\n" in value or "\r" in value:
        return "holds a line break; remove it"
    return None if len(value) >= 12 else "is shorter than 12 characters; let playbooks/secrets.yml make one"


def _secret_key(value: str) -> str | None:
    return _secret(value) or (None if len(value) >= 50 else "is shorter than the 50 characters Django asks for")


def _fernet(value: str) -> str | None:
    try:
        good = len(base64.b64decode(value, altchars=b"-_", validate=True)) == 32
    except (binascii.Error, ValueError):
        good = False
    return None if good else "is no Fernet key (32 bytes in URL-safe base64, 44 characters); let playbooks/secrets.yml make one"


def _pem(kind: str) -> Callable[[str], str | None]:
    def check(value: str) -> str | None:
        begins, ends = rf"-----BEGIN {kind}-----", rf"-----END {kind}-----"
        return None if re.fullmatch(rf"{begins}\n.+\n{ends}", value.strip(), re.DOTALL) else f"is no PEM {kind.lower()}"

    return check


KINDS: dict[str, Callable[[str], str | None]] = {
    "text": _text,
    "optional": _text,
    "server": _server,
    "domain": _domain,
    "registry": _registry,
    "tag": _tag,
    "secret": _secret,
    "secret_key": _secret_key,
    "fernet": _fernet,
    "certificate": _pem("CERTIFICATE"),
    "private_key": _pem("ENCRYPTED PRIVATE KEY"),
}
SECRETS = ("secret", "secret_key", "fernet", "certificate", "private_key")


def _problem(kind: str, name: str, value: Any) -> str | None:
    if value is None or value == "":
        if kind in ("optional", "server"):
            return None
        made = f"; run playbooks/secrets.yml, which writes {name.replace('senex_', 'vault_', 1)}" if kind in SECRETS else ""
        return f"is missing{made}"
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return "must be a string; put it in quotes"
    if misread(value):
        return misread(value)
    text = str(value)
    if PLACEHOLDER.search(text):
        return 'is still a placeholder; write its value, or "" where it is not used'
    return KINDS[kind](text)


def input_problems(inputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each value that cannot be of its kind; never the value of a secret."""
    unknown = sorted(set(inputs) - set(KINDS))
    if unknown:
        raise AnsibleFilterError(f"input_problems knows no kind {', '.join(unknown)}; kinds are {', '.join(KINDS)}")
    problems = ((name, _problem(kind, name, value)) for kind, values in inputs.items() for name, value in values.items())
    return [f"{name}: {problem}" for name, problem in problems if problem]


def _served_elsewhere(name: str, groups: Mapping[str, Sequence[str]], variables: Any) -> tuple[bool, str]:
    """Whether each host that needs what a group without hosts would have is told of a server by its variables; and what to say where one is not."""
    told, clients = elsewhere_of(name)
    hosts = list(dict.fromkeys(host for group in clients for host in groups.get(group) or []))
    left = [host for host in hosts if variables is None or not any(variables[host].get(one) for one in told)]
    return bool(told and hosts and not left), f"; where it is somebody else's server, say {' or '.join(told)} of {', '.join(left)}" if told and hosts else ""


def group_problems(groups: Mapping[str, Sequence[str]], rules: Mapping[str, str] | None = None, variables: Any = None) -> list[str]:
    """One line for each inventory group that has too few hosts or too many; without rules, by the registry of components. By their variables (hostvars)
    hosts may be told of a server that is none of them."""
    known = every_group() if rules is None else rules
    problems = []
    for name in (name for name, count in known.items() if count == EXACTLY_ONE):
        hosts = list(groups.get(name, []))
        served, hint = _served_elsewhere(name, groups, variables) if rules is None and not hosts else (False, "")
        if len(hosts) != 1 and not served:
            problems.append(f"group {name}: needs exactly one host and has {', '.join(hosts) or 'none'}{hint}")
    problems += [f"group {name}: needs a host and has none" for name, count in known.items() if count == ONE_OR_MORE and not groups.get(name)]
    problems += [f"group {name}: has {', '.join(groups[name])}; one host at most" for name, count in known.items()
                 if count == AT_MOST_ONE and len(groups.get(name) or []) > 1]  # fmt: skip
    if {"celery", "celery_beat"} <= set(known) and groups.get("celery_beat") and not groups.get("celery"):
        problems.append("group celery_beat: has a host and the group celery has none, so nobody would do what Beat sends; give celery a host, or empty both")
    return problems


def address_problems(groups: Mapping[str, Sequence[str]], variables: Any) -> list[str]:
    """One line for each address that several hosts have: who asks one of them gets the other, and to take one out of service takes both."""
    found: dict[str, list[str]] = {}
    for host in dict.fromkeys(host for name in every_group() for host in groups.get(name) or []):
        address = private_address(variables, host)  # none where it is made of facts that nobody has read yet
        if address and not PLACEHOLDER.search(address):
            found.setdefault(address, []).append(host)
    said = "each host is known by its own, so write theirs, or one name in all groups for a host that is one"
    return [f"senex_private_address, ansible_host: {', '.join(hosts)} have the same, {address}; {said}" for address, hosts in found.items() if len(hosts) > 1]


def found_kind(value: Any) -> str:
    """What a value is, in the words of whoever writes an inventory."""
    kinds = ((bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a decimal"), (Mapping, "a dictionary"), (Sequence, "a list"),
             (datetime.date, "a date"))  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing")


MOST = 4294967295  # the largest id of the kernel's; what is more overflows somewhere: a server does not start, or takes another number


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch("0|[1-9][0-9]{0,9}", value) is not None and int(value) <= MOST
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_port(value: Any) -> bool:
    return _is_number(value) and int(value) <= 65535


def _is_decimal(value: Any) -> bool:
    decimal = isinstance(value, float) or isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}\.[0-9]{1,20}", value) is not None
    return _is_number(value) or decimal and 0 <= float(value) <= MOST


# What the filter `bool` knows; it takes all else for no
FLAGS = ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")


CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


def _is_line(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip() != "" and CONTROL.search(str(value)) is None


def _is_size(value: Any) -> bool:
    try:
        to_megabytes(value)
    except AnsibleFilterError:
        return False
    return True


# Name of a type: how it is said, and what passes. -e NAME=VALUE gives texts, so a number may be one
TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: value is None or isinstance(value, (str, int)) and not isinstance(value, bool)),
    "number": (f"a whole number, 0 to {MOST}", _is_number),
    "port": ("a port, 65535 at most", _is_port),
    "line": ("a text in one line, not empty", _is_line),
    "decimal": (f"a number, 0 to {MOST}", _is_decimal),
    "flag": ("true or false", lambda value: isinstance(value, (bool, int, str)) and str(value).lower() in FLAGS),
    "bool": ("true or false, without quotes", lambda value: isinstance(value, bool)),
    "path": ("a path", lambda value: isinstance(value, str) and _is_line(value)),
    "list": ("a list", lambda value: isinstance(value, Sequence) and not isinstance(value, (str, bytes))),
    "dict": ("a dictionary", lambda value: isinstance(value, Mapping)),
    "size": ("a size, such as 512M or 2G, or a number of MB", _is_size),
    "any": ("anything", lambda value: True),
}


WORDS = {"type": "list", "of": "text"}  # a command line


def _shape(name: str, value: Any, shape: Mapping[str, Any]) -> list[str]:
    said, passes = TYPES[shape["type"]]
    each = shape.get("of")
    if value == "" and shape.get("or_empty"):
        return []
    if not passes(value):
        inside = f" ({TYPES[each][0]} each)" if each else f" ({', '.join(shape['keys'])})" if shape.get("keys") else ""
        quotes = "; put it in quotes" if shape["type"] in ("text", "line") and isinstance(value, (bool, float, datetime.date)) else ""
        return [f"{name}: is {found_kind(value)}, and must be {said}{inside}{quotes}"]
    if shape["type"] in ("number", "port", "line", "text") and misread(value):
        return [f"{name}: {misread(value)}"]
    if shape["type"] == "list" and each:
        return [line for number, item in enumerate(value, 1) for line in _shape(f"{name}, number {number}", item, {"type": each})]
    if shape["type"] != "dict":
        return []
    keys = shape.get("keys")
    if keys is None:
        return [line for key, item in value.items() for line in _shape(f"{name}.{key}", item, {"type": each or "any"})]
    lines = [f"{name}.{key}: there is no such key; there are {', '.join(keys)}" for key in value if key not in keys]
    absent = [key for key in keys if key not in value]
    if absent and not (shape.get("or_empty") and not value) and not shape.get("partial"):
        lines.append(f"{name}: has no {', '.join(absent)}; it takes the place of the whole default, so give every key ({', '.join(keys)})")
    return lines + [
        line for key, kind in keys.items() if key in value for line in _shape(f"{name}.{key}", value[key], WORDS if kind == "words" else {"type": kind})
    ]


def shape_problems(values: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each value that is not of its type: variable, found type, wanted type. Never the value."""
    return [line for name, shape in shapes.items() if name in values for line in _shape(name, values[name], shape)]


# Types of an argument specification, and the inputs that may have several lines
SPECIFIED = {"str": "text", "path": "path", "int": "number", "float": "decimal", "bool": "flag", "list": "list", "dict": "dict"}
OF_LINES = ("common_login_banner", "nginx_tls_certificate_content", "nginx_tls_private_key_content", "nginx_acme_ca_certificate",
            "backup_offsite_ca_certificate", "certificate_ca_certificate", "certificate_ca_private_key")  # fmt: skip
# Texts that are sizes, by their names: the filter that reads them knows none
SIZES = re.compile(r"[a-z]+_[a-z_]*(memory|maxmemory|tuning_memory_mb)")
PORTS = re.compile(r"[a-z_]+_port")


def _has_control(value: Any) -> bool:
    """Whether a text anywhere within would be more than one line of a file."""
    if isinstance(value, Mapping):
        return any(_has_control(part) for pair in value.items() for part in pair)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_has_control(item) for item in value)
    return isinstance(value, str) and CONTROL.search(value) is not None


def unfit(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """What is wrong with the input of a role, by its argument specification. Ansible's own check takes a list or false for a text, and a text for a list."""
    kind = SPECIFIED.get(option.get("type", "str"), "any")
    if kind in ("text", "any") and SIZES.fullmatch(name) and value is not None:
        kind = "size"
    if kind == "number" and PORTS.fullmatch(name):
        kind = "port"
    said, passes = TYPES[kind]
    if kind != "any" and (value is None or not passes(value)) and not (kind == "text" and isinstance(value, float)):
        hint = ""
        if value is None:
            hint = "; take the line out for the default" + (', or write ""' if kind == "text" else "")
        elif kind == "text":
            hint = "; put it in quotes" if isinstance(value, (bool, datetime.date)) else ""
        elif kind in ("list", "dict") and isinstance(value, str):
            hint = f"; with -e as JSON, -e '{{\"{name}\": {'[...]' if kind == 'list' else '{...}'}}}'"
        return [f"{name}: is {found_kind(value)}, and must be {said}{hint}"]
    if kind != "decimal" and misread(value):  # 1.50 is as good as 1.5 where a number is meant
        return [f"{name}: {misread(value)}"]
    if kind == "dict":
        lines = [f"{name}: the key {key} is {found_kind(key)}, and must be a text; put it in quotes" for key in value if not isinstance(key, str)]
        lines += [f"{name}.{key}: {misread(item)}" for key, item in value.items() if isinstance(item, int) and misread(item)]
        if lines:
            return lines
    if name not in OF_LINES and _has_control(value):
        return [f"{name}: holds a line break or another control character; remove it"]
    if kind == "list" and option.get("elements"):
        # What a specification cannot say of a list of lists: they are command lines
        each = {"type": option["elements"], "options": option.get("options"), "elements": "str"}
        return [line for number, item in enumerate(value, 1) for line in unfit(f"{name}, number {number}", item, each)]
    return _inside(name, value, option["options"]) if kind == "dict" and option.get("options") else []


def _inside(name: str, value: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The same of each key of a dictionary: a text for a list of texts would be taken letter by letter."""
    lines = [f"{name}.{key}: there is no such key; there are {', '.join(options)}" for key in value if key not in options]
    lines += [f"{name}: has no {key}" for key, option in options.items() if option.get("required") and key not in value]
    return lines + [line for key, option in options.items() if key in value for line in unfit(f"{name}.{key}", value[key], option)]


def network_problems(values: Sequence[Any]) -> list[str]:
    """The values that are neither an address nor a network, as systemd, nginx and ufw have them. systemd would leave them out with a line in the journal."""

    def good(value: Any) -> bool:
        try:
            # A mask is a number: nginx and systemd know no 255.255.0.0, and systemd takes what begins with a zero for an octal one
            mask = re.fullmatch(r"[^/%]+(/(0|[1-9][0-9]*))?", value) if isinstance(value, str) else None
            return mask is not None and bool(ipaddress.ip_network(value, strict=False))
        except ValueError:
            return False

    return [str(value) for value in values if not good(value)]


def minimum_problems(values: Mapping[str, Any], least: int) -> list[str]:
    """One line for each number that is smaller; what is no number was refused before."""
    return [f"{name}: {value} is too small; write {least} or more" for name, value in values.items() if _is_decimal(value) and float(value) < least]


def above(values: Mapping[str, Any], most: int) -> list[str]:
    """One line for each number that is larger."""
    return [f"{name}: {value} is too large; write {most} or less" for name, value in values.items() if _is_decimal(value) and float(value) > most]


def longer(values: Mapping[str, Any], most: int) -> list[str]:
    """One line for each text that is longer."""
    return [f"{name}: has {len(str(value))} characters; write {most} or less" for name, value in values.items() if len(str(value)) > most]


def no_patterns(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no regular expression. PCRE's are more, and what is none here is none there, save what is exotic."""

    def wrong(value: str) -> str | None:
        try:
            re.compile(value)
        except re.error as problem:
            return str(problem)
        return None

    found = ((name, wrong(str(value))) for name, value in values.items())
    return [f"{name}: is no regular expression ({problem})" for name, problem in found if problem]


def no_words(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that a shell cannot take apart into words."""
    lines = []
    for name, value in values.items():
        try:
            shlex.split(str(value))
        except ValueError as problem:
            lines.append(f"{name}: {str(problem).lower()}; close the quotation, as for a shell")
    return lines


PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\r?\n.+\n-----END CERTIFICATE-----", re.DOTALL)


def no_certificates(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is neither empty nor holds a PEM certificate: a path, for instance, where the text is meant."""
    said = "is no PEM certificate; give its text, such as lookup('ansible.builtin.file', 'ca.pem')"
    return [f"{name}: {said}" for name, value in values.items() if value and not PEM_CERTIFICATE.search(str(value))]


PLACE = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*")


def relative_path_problems(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that names no directory below the home: a container gets it as its own, so it is never the home, nor outside of it."""
    said = "is no path below senex_home; write one such as data/redis (letters, digits, '.', '_' and '-', neither . nor .. as a part)"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not PLACE.fullmatch(str(value))]


# As Podman has it: what follows the registry is in small letters
IMAGE = re.compile(r"(?P<registry>[A-Za-z0-9.-]+(:[0-9]+)?)(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?")


def no_images(values: Mapping[str, Any], from_afar: bool = True) -> list[str]:
    """One line for each value that is no whole name of an image. A short one is looked up in registries, of which Debian and Ubuntu name none."""
    said = "is no image; write its whole name in small letters, with the registry and without https://, such as docker.io/library/postgres:17-alpine"

    def good(value: str) -> bool:
        found = IMAGE.fullmatch(value)
        return found is not None and (not from_afar or found["registry"] == "localhost" or any(sign in found["registry"] for sign in ".:"))

    return [f"{name}: '{value}' {said}" for name, value in values.items() if not good(str(value))]


def no_addresses(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no IPv4 address, nor empty. What means every address is refused for that."""

    def good(value: Any) -> bool:
        try:
            return value in ("", "::", "*") or bool(ipaddress.IPv4Address(str(value)))
        except ValueError:
            return False

    return [f"{name}: '{value}' is no IPv4 address; use this host's in the private network" for name, value in values.items() if not good(value)]


# Below the home, whatever the inputs say: made by roles whose directories have no other place
TAKEN = ("bin", "config", "lib", "logs", ".config", ".local", ".cache", "data/media", "data/static", "data/staticfiles")
TAKEN += ("backups/postgresql", "backups/redis", "backups/media")


def nesting_problems(values: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """One line for each value whose directory is, holds or lies in another: each belongs to somebody else, and is removed or exchanged by itself."""
    places = [(name, str(value)) for name, value in values.items()]
    rest = [(str(value), f"{name} ({value})") for name, value in others.items()] + [(name, name) for name in TAKEN]
    lines = []
    for at, (name, place) in enumerate(places, 1):
        those = [(there, f"{other} ({there})") for other, there in places[at:]] + rest
        met = [said for there, said in those if f"{place}/".startswith(f"{there}/") or f"{there}/".startswith(f"{place}/")]
        lines += [f"{name}: {place} is, holds or lies in {met[0]}; give each its own"] if met else []
    return lines


def port_clashes(listeners: Sequence[Sequence[Any]]) -> list[str]:
    """One line for each (name, address, port) that another one has already; `*` is every address. The second to start would be refused by the kernel."""
    lines, taken = [], []
    for name, address, port in listeners:
        met = [other for other, there, number in taken if number == int(port) and (there == address or "*" in (there, address))]
        lines += [f"{name}: port {port} is that of {met[0]} on this host already; give each its own"] if met else []
        taken.append((name, address, int(port)))
    return lines


OFTEN = r"(minute|hour|dai|week|month|year|quarter|annual|(semi|bi)-?annual)ly"
DAY = r"(mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?|sun(day)?)"
PART = r"[0-9*][0-9*,./]*"
# Of systemd.time(7): days of the week, a date, a time; one at least, and a zone behind it
CALENDAR = re.compile(
    rf"({OFTEN}|@[0-9.]+|(?=\S)({DAY}((,|\.\.|-){DAY})*,?(\s+|$))?({PART}([-~]{PART}){{1,2}}(\s+|$))?(?P<time>{PART}(:{PART}){{1,2}})?)(\s+[a-z][a-z0-9_+/-]*)?\s*",
    re.IGNORECASE,
)


def is_time(value: str) -> bool:
    """Whether systemd takes it for OnCalendar=. It has the last word on the host; what it would refuse in the middle of a run ends it here."""
    found = CALENDAR.fullmatch(value)
    if not found or re.search(r"[\r\n]", value):
        return False
    for part, most in zip((found["time"] or "").split(":"), (23, 59, 59), strict=False):
        if any(int(number) > most for one in part.split(",") for number in re.findall(r"(?<![0-9/.])[0-9]+|(?<=\.\.)[0-9]+", one)):
            return False
    return True


def schedule_problems(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no time of a timer."""
    said = "is no time as systemd knows it, such as *-*-* 03:30:00 UTC"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not is_time(str(value))]


def odd_overrides(overrides: Mapping[str, Any], jobs: Mapping[str, Any]) -> list[str]:
    """One line for each entry of backup_overrides that role backup cannot use."""
    found = []
    for job, given in overrides.items():
        if job not in jobs:
            found.append(f"backup_overrides: {job} is no job without inputs of its own; those are {', '.join(jobs) or 'none'}")
        elif not isinstance(given, Mapping) or set(given) - {"schedule", "days", "max_age"}:
            found.append(f"backup_overrides.{job}: {given} is not some of schedule, days and max_age")
        else:
            found += schedule_problems({f"backup_overrides.{job}.schedule": given["schedule"]} if "schedule" in given else {})
            found += [f"backup_overrides.{job}.{name}: {given[name]} must be a whole number above 0" for name in ("days", "max_age")
                      if name in given and not re.fullmatch("[1-9][0-9]*", str(given[name]))]  # fmt: skip
    return found


# Of systemd.time(7)
SPAN_UNIT = r"(usec|us|msec|ms|seconds?|sec|s|minutes?|min|m|hours?|hr|h|days?|d|weeks?|w|months?|M|years?|y)"
SPAN = re.compile(rf"[0-9]+(\.[0-9]+)?( *{SPAN_UNIT})?( *[0-9]+(\.[0-9]+)? *{SPAN_UNIT})*")


def no_spans(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no length of time. systemd would leave it out with a line in the journal."""
    said = "is no length of time as systemd knows it, such as 30s or 1min 30s"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not SPAN.fullmatch(str(value))]


ABSOLUTE = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+/?")


def no_paths(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no absolute path. With .. in it, a comparison would take it for another one."""
    said = "is no absolute path; write one of letters, digits, '.', '_' and '-', without . or .. as a part, such as /srv/data"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not ABSOLUTE.fullmatch(str(value))]


def form_problems(forms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each value that is not of its form."""
    return [f"{name}: '{form['value']}' is {form['says']}" for name, form in forms.items() if not re.search(form["form"], str(form["value"]))]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "input_problems": input_problems,
            "address_problems": address_problems,
            "group_problems": group_problems,
            "shape_problems": shape_problems,
            "network_problems": network_problems,
            "minimum_problems": minimum_problems,
            "above": above,
            "longer": longer,
            "no_patterns": no_patterns,
            "no_words": no_words,
            "no_certificates": no_certificates,
            "form_problems": form_problems,
            "relative_path_problems": relative_path_problems,
            "nesting_problems": nesting_problems,
            "port_clashes": port_clashes,
            "schedule_problems": schedule_problems,
            "odd_overrides": odd_overrides,
            "no_spans": no_spans,
            "no_paths": no_paths,
            "no_images": no_images,
            "no_addresses": no_addresses,
            "domain_problems": domain_problems,
            "domain_placeholders": domain_placeholders,
        }
