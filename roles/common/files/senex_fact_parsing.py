"""What the texts say that the fact script gathers: of the kernel, of files of root's, and of programs. Its text is put into that script."""

import calendar
import json
import os
import re
import time

import untrusted


def parse_version(text):
    found = re.search(r"\d+\.\d+(\.\d+)*", text)
    return found.group() if found else None


def parse_installed(status):
    """Names of the packages that dpkg has installed."""
    return sorted(found.group(1) for found in re.finditer(r"^Package: (\S+)\nStatus: \S+ \S+ installed$", status, re.MULTILINE))


def ufw_tuples(*texts):
    """(action, protocol, port, source, whether it lets all in that it seems to, whether it is the collection's) of each rule for what comes in.

    ufw keeps each rule in a tuple comment: action protocol port destination source-port source [two application profiles] direction[_interface].
    """
    for found in re.finditer(r"^### tuple ### (.+)$", "\n".join(texts), re.MULTILINE):
        words = [word for word in found.group(1).split() if not word.startswith("comment=")]
        if len(words) not in (7, 9) or not words[-1].startswith("in"):
            continue
        action, protocol, port, destination, source_port, source = words[:6]
        whole = source_port == "any" and destination in ("0.0.0.0/0", "::/0") and words[-1] == "in"
        comment = re.search(r" comment=([0-9a-f]+)", found.group(1))
        own = bool(comment) and bytes.fromhex(comment.group(1)[: len(comment.group(1)) // 2 * 2]).startswith(b"senex.trader")
        yield action.split("_")[0], protocol, port, "any" if source in ("0.0.0.0/0", "::/0") else source, whole, own


def parse_ufw_rules(*texts):
    """'allow tcp 443 any' by rule; which of them carry the collection's comment; and 'tcp 443' of what somebody else lets in for some alone."""
    rules, own, narrow = set(), set(), set()
    for action, protocol, port, source, whole, ours in ufw_tuples(*texts):
        rule = f"{action} {protocol} {port} {source}"
        if whole:
            rules.add(rule)
            own.update([rule] if ours else [])
        if not ours and action in ("allow", "limit") and port != "any" and (source != "any" or not whole):
            narrow.add(f"{protocol} {port}")
    return sorted(rules), sorted(own), sorted(narrow)


def parse_ufw_late(*texts):
    """Blocks of some sources that stand behind a rule that lets in, where ufw may never come to them; each text has an order of its own."""
    late = set()
    for text in texts:
        admitted = False
        for action, protocol, port, source, whole, _ours in ufw_tuples(text):
            if action in ("allow", "limit"):
                admitted = True
            elif admitted and whole and source != "any":
                late.add(f"{action} {protocol} {port} {source}")
    return sorted(late)


def parse_sshd(text):
    """The effective configuration as sshd -T prints it."""
    options = {}
    for line in untrusted.records(text):
        name, _, value = line.strip().partition(" ")
        options.setdefault(name.lower(), []).append(value)
    return options


def parse_subids(text):
    """First and last id of each range by user: {'senex': [[200000, 265535]]}."""
    ranges = {}
    for line in untrusted.records(text):
        words = line.strip().split(":")
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            ranges.setdefault(words[0], []).append([int(words[1]), int(words[1]) + int(words[2]) - 1])
    return ranges


def parse_swaps(text):
    """Swap in MiB; sizes in /proc/swaps are KiB."""
    return sum(int(re.split(r"[ \t]+", line)[2]) for line in untrusted.records(text)[1:]) // 1024


def parse_memory(text):
    """MemTotal in MiB, as Ansible's memtotal_mb; /proc/meminfo counts KiB."""
    found = re.search(r"^MemTotal:\s+(\d+)", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else None


def parse_resolvers(texts):
    """The addresses that names are asked of; where that is the host's own stub, whom it asks (as Podman does)."""
    for text in texts:
        found = re.findall(r"^nameserver\s+([0-9A-Fa-f.:]+)", text, re.MULTILINE)
        if found and not all(address.startswith("127.") for address in found):
            return found
    return []


def has_ipv6(text):
    """Whether an interface other than the loopback has an address, from /proc/net/if_inet6."""
    return any(line.split()[-1] != "lo" for line in untrusted.records(text) if line.strip())


def parse_certificate(text):
    """From openssl x509 -enddate -fingerprint -sha256 -ext …"""
    lines = [line.strip() for line in untrusted.records(text)]
    end = next((line[9:] for line in lines if line.startswith("notAfter=")), "")
    try:
        not_after = calendar.timegm(time.strptime(end.replace(" GMT", ""), "%b %d %H:%M:%S %Y"))
    except ValueError:  # none, or "Bad time value" of one that somebody made by hand
        return None

    def after(heading):
        place = next((number for number, line in enumerate(lines) if line.startswith(heading)), None)
        return lines[place + 1] if place is not None and place + 1 < len(lines) else ""

    key_id = after("X509v3 Subject Key Identifier")
    issuer = after("X509v3 Authority Key Identifier").removeprefix("keyid:")
    fingerprint = next((line.split("=", 1)[1] for line in lines if " fingerprint=" in line.lower()), "")
    return {
        "not_after": not_after,
        "sans": [re.sub(r"^(DNS|IP Address):", "", name) for name in after("X509v3 Subject Alternative Name").split(", ") if name],
        "fingerprint": fingerprint.replace(":", "").lower(),
        "key_id": key_id.lower(),
        "issuer_key_id": (issuer or key_id).lower(),
    }


def is_key(line):
    return not line.lstrip().startswith("#") and bool(re.search(r"(ssh|ecdsa|sk)-\S+ \S{40,}", line))


def parse_listening(*tables):
    """{inode: port} of the sockets that listen, from /proc/net/tcp and tcp6."""
    found = {}
    for line in untrusted.records("\n".join(tables)):
        words = line.split()
        if len(words) > 9 and words[3] == "0A":
            found[words[9]] = int(words[1].rpartition(":")[2], 16)
    return found


def last_release(text):
    """The newest release that succeeded, of the records that playbooks/deploy.yml writes."""
    for line in reversed(untrusted.records(text)):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("result") == "succeeded":
            return {name: record.get(name) for name in ("id", "reference", "tag", "inventory_tag", "digest")}
    return None


def parse_system(os_release, debian_version):
    """Name and version of the distribution as Ansible's own facts have them, from /etc/os-release and /etc/debian_version."""
    values = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    name = {"debian": "Debian", "ubuntu": "Ubuntu"}.get(values.get("ID"), values.get("NAME", ""))
    point = debian_version.strip()
    version = point if name == "Debian" and re.match(r"\d", point) else values.get("VERSION_ID", "")
    return {"distribution": name, "distribution_version": version, "service_mgr": "systemd" if os.path.isdir("/run/systemd/system") else "another"}


def parse_states(text):
    """ActiveState by unit, from systemctl show."""
    states = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in untrusted.records(block) if "=" in line)
        if "Id" in values:
            states[values["Id"]] = values.get("ActiveState")
    return states
