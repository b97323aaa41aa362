# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with the inputs of a role: its rules, and what they need to know of an input beyond an expression of a line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.senex.trader.plugins.filter.checking_addresses import network_problems
from jinja2.filters import do_int as whole

RULE = {"that", "message"}
FOUND = {"problems"}


def rule_problems(rules: Sequence[Mapping[str, Any]], first: bool = False) -> list[str]:
    """The message of each rule whose `that` does not hold, and the lines of those that are a list of `problems`, in their order.

    No message of a rule that holds is made: it may name what is only there where the rule does not hold. A long one may be a list of parts.
    With `first` no rule behind one that does not hold is asked: it may need what that one finds good.
    """
    lines: list[str] = []
    for rule in rules:
        if lines and first:
            break
        if set(rule) == FOUND:
            lines += rule["problems"]
        elif set(rule) != RULE:
            raise AnsibleFilterError(f"a rule has that and message, or problems alone, and not {', '.join(sorted(rule))}")
        elif not rule["that"]:
            said = rule["message"]
            lines.append(str(said) if isinstance(said, str) else " ".join(str(part) for part in said))
    return lines


def names_below(values: Mapping[str, Any], least: int) -> list[str]:
    """The names of the numbers that are smaller."""
    return [name for name, value in values.items() if whole(value) < least]


def listed_network_problems(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """One line for each list that has what is neither an address nor a network."""
    found = ((name, network_problems(networks)) for name, networks in values.items())
    return [f"{name}: {', '.join(wrong)} is neither an address nor a network, e.g. 10.0.0.0/8" for name, wrong in found if wrong]


def no_host_paths(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """One line for each list that has what does not begin at the root of the host."""
    found = ((name, [str(path) for path in paths if not str(path).startswith("/")]) for name, paths in values.items())
    return [f"{name}: {', '.join(wrong) or 'nothing'} is no absolute path on the host; write such as /srv" for name, wrong in found if wrong]


def directories_above(path: str) -> list[str]:
    """Every directory that a path lies in, as far as the path says."""
    parts = str(path).split("/")[:-1]
    return ["/".join(parts[:number]) for number in range(1, len(parts) + 1)]


def hosts_without(hosts: Sequence[str], variables: Any, *names: str) -> list[str]:
    """The hosts for which the inventory says none of these."""
    return [host for host in hosts if host not in variables or not any(name in variables[host] for name in names)]


# --- Settings that are handed on as they are ---


def nested_settings(settings: Mapping[str, Any]) -> list[str]:
    """The names of those that are no text and no number; postgresql.conf would have them with their brackets."""
    return [name for name, value in settings.items() if not isinstance(value, str) and hasattr(value, "__iter__")]


DIRECTIVE = re.compile(r"[A-Za-z][A-Za-z0-9-]*$")


def odd_directives(settings: Mapping[str, Any]) -> list[str]:
    """The names of what redis.conf cannot say."""
    return [name for name, value in settings.items() if not DIRECTIVE.match(name) or value is None or isinstance(value, Mapping)]


def unwritable_sysctl(settings: Mapping[str, Any]) -> list[str]:
    """The names of those that are no number and no text: true would be written as True, a list with its brackets, and nothing is refused by the kernel."""

    def good(value: Any) -> bool:
        return isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip() != ""

    return [name for name, value in settings.items() if not good(value)]


def port_problems(ports: Sequence[Any]) -> list[str]:
    """Those that have the form of a port or of a range of ports, such as 1:65535, and are none."""

    def good(port: str) -> bool:
        # As ufw lists them, or each run would add the rule anew; and it refuses a range of one
        ends = [int(end) for end in port.split(":")]
        return 1 <= ends[0] <= ends[-1] <= 65535 and len(set(ends)) == len(ends) and ":".join(map(str, ends)) == port

    return [port for port in map(str, ports) if re.fullmatch(r"[0-9]{1,10}(:[0-9]{1,10})?", port) and not good(port)]


# --- What a host has already ---


def account_conflicts(host: Mapping[str, Any], name: str, number: int) -> list[str]:
    """Who else has the name or the number of the user that an application is outside its container."""
    user, group = host["users"].get(name), host["groups"].get(name)
    lines = [f"the user {name} has UID {user['uid']}"] if user and user["uid"] != number else []
    lines += [f"the group {name} has GID {group}"] if group is not None and group != number else []
    lines += [f"its number belongs to the user {other}" for other, one in host["users"].items() if one["uid"] == number and other != name]
    return lines + [f"its number belongs to the group {other}" for other, gid in host["groups"].items() if gid == number and other != name]


# --- nginx ---


def url_problems(urls: Sequence[Sequence[str]]) -> list[str]:
    """What is wrong with pairs of an input and a path. Each is a location of its own; nginx knows two of one name for a mistake."""
    lines, taken = [], {}
    for name, url in urls:
        if url in taken:
            lines.append(f"{name}: {url} is {taken[url]} already; give each a path of its own")
        elif re.match("/senex-", str(url)):
            lines.append(f"{name}: paths that begin with /senex- are nginx's own; take another one")
        taken[url] = name
    return lines


def site_problems(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each site of somebody else."""
    rest = "which would be served no more; take another host, or set nginx_take_over: true to have the file put aside"
    return [f"nginx_take_over: nginx of this host has {', '.join(site['names'])} ({site['path']}), {rest}" for site in sites]


SIZE = re.compile(r"[1-9][0-9]*[kmKM]$")
BUFFERS = re.compile(r"[1-9][0-9]* [1-9][0-9]*[kmKM]$")


def buffer_problems(sizes: Mapping[str, Any], buffers: Mapping[str, Any]) -> list[str]:
    """As nginx itself wants its buffers, said before the first change."""
    lines = [f"{name}: is no size of nginx; write a number and k or m, such as 32k" for name, value in sizes.items() if not SIZE.match(str(value))]
    lines += [f"{name}: is no number and size of buffers; write both, such as 8 16k" for name, value in buffers.items() if not BUFFERS.match(str(value))]
    if lines:
        return lines
    one, busy, all_of_them = sizes["nginx_proxy_buffer_size"], sizes["nginx_proxy_busy_buffers_size"], buffers["nginx_proxy_buffers"]
    number, each = all_of_them.split(" ")
    kept, least = sizes.get("nginx_proxy_max_temp_file_size"), max(one, each, key=human_to_bytes)
    if kept and human_to_bytes(kept) < human_to_bytes(least):
        lines = [f"nginx_proxy_max_temp_file_size: {kept} must be at least {least} (nginx_proxy_buffer_size, and one of nginx_proxy_buffers)"]
    if max(human_to_bytes(one), human_to_bytes(each)) <= human_to_bytes(busy) <= (int(number) - 1) * human_to_bytes(each):
        return lines
    least, most = f"nginx_proxy_buffer_size ({one})", f"all of nginx_proxy_buffers ({all_of_them}) but one"
    return [*lines, f"nginx_proxy_busy_buffers_size: {busy} must be at least {least} and at most {most}"]


def uncovered_names(names: Sequence[str], certificate: Sequence[str]) -> list[str]:
    """The names that a certificate is not for. A wildcard stands for one label."""
    return [name for name in names if name not in certificate and "*." + name.split(".", 1)[1] not in certificate]


def uncertified(names: Sequence[str], asked: Sequence[str], said: str) -> list[str]:
    """One line for each name that came without a certificate: of those that were asked for, in certbot's words."""
    nowhere = "It does not resolve on this host; make an A record with the public address, or take the name out"
    return [f"nginx_domain, nginx_domain_aliases: {name} has no certificate. {said if name in asked else nowhere}" for name in names]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "rule_problems": rule_problems,
            "names_below": names_below,
            "listed_network_problems": listed_network_problems,
            "no_host_paths": no_host_paths,
            "directories_above": directories_above,
            "hosts_without": hosts_without,
            "nested_settings": nested_settings,
            "odd_directives": odd_directives,
            "unwritable_sysctl": unwritable_sysctl,
            "port_problems": port_problems,
            "account_conflicts": account_conflicts,
            "url_problems": url_problems,
            "site_problems": site_problems,
            "buffer_problems": buffer_problems,
            "uncovered_names": uncovered_names,
            "uncertified": uncertified,
        }
