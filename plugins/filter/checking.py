# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with the inputs of an environment, said once and by name."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
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


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "input_problems": input_problems,
            "domain_problems": domain_problems,
            "domain_placeholders": domain_placeholders,
        }
