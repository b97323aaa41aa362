# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Which rules the firewall is to have, beside those that others gave it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

LETS_IN = ("allow", "limit")


def _covers(ports: str, port: str) -> bool:
    """`22`, `20:30` and `22,80:90` as ufw keeps them; a range within a range too."""
    first, _, last = port.partition(":")
    for part in ports.split(","):
        begin, _, end = part.partition(":")
        if part == "any" or (begin.isdigit() and int(begin) <= int(first) and int(last or first) <= int(end or begin)):
            return True
    return False


def _network(source: str) -> str:
    """As ufw writes it: no bits of a host behind the mask, and no mask of a single address."""
    if source == "any":
        return source
    try:
        network = ipaddress.ip_network(source, strict=False)
    except ValueError:
        return source
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _open(rules: Iterable[str], protocol: str, port: str) -> bool:
    """Whether everybody is let in there."""
    words = [rule.split(" ") for rule in rules]
    return any(one[0] in LETS_IN and one[1] in ("any", protocol) and _covers(one[2], port) and one[3] == "any" for one in words)


def _narrow(ufw: Mapping, protocol: str, port: str) -> bool:
    """Whether somebody let some in there, and nobody everybody."""
    found = [one.split(" ") for one in ufw.get("narrow", [])]
    return any(one[0] in ("any", protocol) and _covers(one[1], port) for one in found) and not _open(ufw["rules"], protocol, port)


def _place(rule: str) -> str:
    """Protocol, port and source. Of these ufw has one rule: another one takes its place, whatever the first one did."""
    return rule.partition(" ")[2]


def _stays(ufw: Mapping, rule: str, named: bool) -> bool:
    """Whether somebody else's rule, which does something else, keeps the place of one: it lets in too (a limit), or nobody `named` who may come in."""
    there = next((one for one in ufw["rules"] if _place(one) == _place(rule) and one not in ufw["own_rules"]), rule)
    return there != rule and (not named or there.split(" ")[0] in LETS_IN)


def _is_address(source: str) -> bool:
    """Or a network."""
    try:
        ipaddress.ip_network(source, strict=False)
    except ValueError:
        return False
    return True


def firewall_wanted(
    ufw: Mapping, ssh_ports: Sequence[int], ssh_sources: Sequence[str], rules: Sequence[Mapping], components: Sequence[Mapping] = ()
) -> list[str]:
    """Rules as the host's facts have them (`allow tcp 443 any`). What a host keeps closed stays so unless a source is named.

    Those of the operator come first, for the first that fits decides; then what other hosts need of the components here. No two are of one place.
    """
    ports, wanted = [str(port) for port in ssh_ports], []
    if ssh_sources:
        wanted = [f"allow tcp {port} {_network(source)}" for port in ports for source in ssh_sources]
    else:
        up = ufw["active"] and ufw["denies_incoming"]
        if any(_open(ufw["rules"], "tcp", port) for port in ports) or not (up or any(_narrow(ufw, "tcp", port) for port in ports)):
            wanted = [f"allow tcp {port} any" for port in ports]
        else:  # what an earlier run was told to let in
            wanted = [rule for rule in ufw["own_rules"] if rule.startswith(tuple(f"allow tcp {port} " for port in ports))]
    wanted = [rule for rule in wanted if not _stays(ufw, rule, bool(ssh_sources))]
    for rule in rules:
        action, protocol, port = rule.get("action", "allow"), rule.get("protocol", "tcp"), str(rule["port"])
        if rule.get("from") or action not in LETS_IN or not _narrow(ufw, protocol, port):
            one = f"{action} {protocol} {port} {_network(rule.get('from') or 'any')}"
            if "action" in rule or not _stays(ufw, one, bool(rule.get("from"))):
                wanted = firewall_after(wanted, [one])
    for one in components:
        if not one["from"]:  # not known in this run: what an earlier one let in
            wanted += [rule for rule in ufw["own_rules"] if rule.startswith(f"allow tcp {one['port']} ") and rule not in wanted]
            continue
        rule = f"tcp {one['port']} {_network(one['from'])}"
        if _is_address(one["from"]) and not any(_place(other) == rule for other in wanted) and not _stays(ufw, f"allow {rule}", named=True):
            wanted.append(f"allow {rule}")
    return wanted


def firewall_after(rules: Sequence[str], more: Sequence[str]) -> list[str]:
    """Rules with others added, in the place of those that they take."""
    taken = {_place(rule) for rule in more}
    return [rule for rule in rules if _place(rule) not in taken] + list(more)


def firewall_closed(rules: Iterable[str], wanted: Iterable[str], port: int) -> list[str]:
    """Rules that let nobody in at a TCP port where one that is there does."""
    there = {_place(rule) for rule in rules if rule.split(" ")[0] in LETS_IN}
    words = [rule.split(" ") for rule in wanted if _place(rule) in there]
    return [" ".join(one) for one in words if one[0] not in LETS_IN and one[1] in ("any", "tcp") and _covers(one[2], str(port))]


def _blocks(rule: str) -> bool:
    """Some sources, and not everybody else, which stands where the operator wrote it."""
    action, _, _, source = rule.split(" ")
    return action not in LETS_IN and source != "any"


def firewall_late(ufw: Mapping, wanted: Iterable[str]) -> list[str]:
    """Rules that are taken away first: blocks behind one that lets in (a host of an earlier version does not say where they stand), and what lets in
    where a deny is to be. That would take the place where it stands, ahead of sources that are to be let in."""
    wanted = list(wanted)
    denied = {_place(rule) for rule in wanted if rule.split(" ")[0] not in LETS_IN}
    late = [rule for rule in wanted if _blocks(rule) and rule in ufw["rules"] and rule in ufw.get("late", ufw["rules"])]
    return late + [rule for rule in ufw["rules"] if rule.split(" ")[0] in LETS_IN and _place(rule) in denied]


def firewall_first(rules: Iterable[str]) -> list[str]:
    """The blocks among these rules: the first rule that fits decides, so they go before all that let in."""
    return [rule for rule in rules if _blocks(rule)]


def firewall_blocked(address: str, port: int, wanted: Iterable[str]) -> list[str]:
    """Blocks of this address at a TCP port."""
    words = [rule.split(" ") for rule in firewall_first(wanted)]
    return [" ".join(one) for one in words if one[1] in ("any", "tcp") and _covers(one[2], str(port)) and not firewall_outside([address], [one[3]])]


def firewall_nameless(components: Sequence[Mapping], rules: Iterable[str]) -> list[str]:
    """One line for each host that needs a port here, whose address nobody knows, and whom no rule lets in there."""
    admitted = [rule.split(" ") for rule in rules]
    return [
        f"senex_private_address: {one['host']} has {one['from'] or 'none'}, and a firewall knows no names; write its address, or a rule for port {one['port']}"
        " in common_firewall_rules"
        for one in components
        if not _is_address(one["from"]) and not any(word[0] in LETS_IN and word[1] in ("any", "tcp") and _covers(word[2], one["port"]) for word in admitted)
    ]


def firewall_admitted(rules: Iterable[str], port: int) -> list[str]:
    """Sources that rules let in at a TCP port."""
    words = [rule.split(" ") for rule in rules]
    return [one[3] for one in words if one[0] in LETS_IN and one[1] in ("any", "tcp") and _covers(one[2], str(port))]


def firewall_outside(addresses: Iterable[str], sources: Sequence[str]) -> list[str]:
    """Those of the addresses that are in none of the sources."""
    networks = [ipaddress.ip_network(source, strict=False) for source in sources if source != "any"]
    return [one for one in addresses if "any" not in sources and not any(ipaddress.ip_address(one.partition("%")[0]) in network for network in networks)]


class FilterModule:
    """Filters."""

    def filters(self) -> dict:
        """By name."""
        return {"firewall_wanted": firewall_wanted, "firewall_admitted": firewall_admitted, "firewall_outside": firewall_outside,
                "firewall_nameless": firewall_nameless, "firewall_late": firewall_late, "firewall_first": firewall_first,
                "firewall_blocked": firewall_blocked, "firewall_after": firewall_after, "firewall_closed": firewall_closed}  # fmt: skip
