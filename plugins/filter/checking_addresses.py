# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with addresses, networks and ports."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any


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


def no_addresses(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no IPv4 address, nor empty. What means every address is refused for that."""

    def good(value: Any) -> bool:
        try:
            return value in ("", "::", "*") or bool(ipaddress.IPv4Address(str(value)))
        except ValueError:
            return False

    return [f"{name}: '{value}' is no IPv4 address; use this host's in the private network" for name, value in values.items() if not good(value)]


def port_clashes(listeners: Sequence[Sequence[Any]]) -> list[str]:
    """One line for each (name, address, port) that another one has already; `*` is every address. The second to start would be refused by the kernel."""
    lines, taken = [], []
    for name, address, port in listeners:
        met = [other for other, there, number in taken if number == int(port) and (there == address or "*" in (there, address))]
        lines += [f"{name}: port {port} is that of {met[0]} on this host already; give each its own"] if met else []
        taken.append((name, address, int(port)))
    return lines


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "network_problems": network_problems,
            "port_clashes": port_clashes,
            "no_addresses": no_addresses,
        }
