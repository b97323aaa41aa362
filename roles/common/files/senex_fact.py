#!/usr/bin/python3 -IS
"""Facts of a senex.trader host, for Ansible: ansible_facts['ansible_local']['senex'].

Reads files where it can and starts all commands at once where it must: it runs with every fact
gathering. A tool that is missing gives an empty value, never an error.
"""

import calendar
import glob
import grp
import hashlib
import json
import os
import pwd
import re
import socket
import subprocess
import time
import types

import untrusted  # role common puts the text of that module here

if "untrusted" not in globals():
    untrusted = types.SimpleNamespace(**globals())  # in one file its names are here
VERSION = 8
PSEUDO_FILE_SYSTEMS = {
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devtmpfs",
    "devpts",
    "mqueue",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "pstore",
    "autofs",
    "configfs",
    "fusectl",
    "hugetlbfs",
    "nsfs",
    "efivarfs",
    "binfmt_misc",
    "ramfs",
    "squashfs",
}
CERTIFICATES = ("/etc/senex-trader/tls/*.crt", "/etc/nginx/senex/tls/*.crt", "/etc/letsencrypt/live/*/fullchain.pem")
MANY = 50  # certificates below homes: each is a process, and whoever owns a home may put any number there
KEYS = 1 << 20  # bytes of a file with public keys
QUADLET_PATHS = (
    "/usr/libexec/podman/quadlet",
    "/usr/lib/podman/quadlet",
    "/usr/lib/systemd/user-generators/podman-user-generator",
)


def system_text(path):
    """A file of root's or the kernel's own; for all below a directory of another's there is untrusted."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as stream:
            return stream.read()
    except OSError:
        return ""


def start(*argv, stdin=subprocess.DEVNULL):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
        )
    except OSError:
        return None


def output(process, said=None):
    return process.communicate(said)[0] if process else ""


def succeeded(process):
    return process is not None and output(process) is not None and process.returncode == 0


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


def certificates(texts):
    extensions = "subjectAltName,subjectKeyIdentifier,authorityKeyIdentifier"
    command = ("openssl", "x509", "-passin", "pass:", "-noout", "-enddate", "-fingerprint", "-sha256", "-ext", extensions)
    running = {path: start(*command, stdin=subprocess.PIPE) for path in sorted(texts)}
    found = {path: parse_certificate(output(process, texts[path])) for path, process in running.items()}
    found = {path: certificate for path, certificate in found.items() if certificate}
    by_key = {certificate["key_id"]: certificate["fingerprint"] for certificate in found.values() if certificate["key_id"]}
    for certificate in found.values():
        certificate["issuer_fingerprint"] = by_key.get(certificate["issuer_key_id"])
    return found


def ssh_connection():
    """Who came in over ssh, and at which port of this host: sudo drops the variables, so ask the ancestors."""
    process, found = os.getpid(), None
    while process > 1:
        status = dict(re.findall(r"^(Uid|PPid):\s*(\d+)", system_text(f"/proc/{process}/status"), re.MULTILINE))
        variables = dict(item.split("=", 1) for item in system_text(f"/proc/{process}/environ").split("\0") if "=" in item)
        words = variables.get("SSH_CONNECTION", "").split()
        if len(words) == 4:
            try:  # the real user: a module that acts as the service user for a moment is still whoever came in
                user = pwd.getpwuid(int(status["Uid"])).pw_name
            except KeyError:
                break
            # sshd on a pipe (ProxyCommand) knows neither address nor port
            known = words[2] != "UNKNOWN"
            found = {"user": user, "address": words[0] if known else None, "port": int(words[3]) if known else None}
        process = int(status.get("PPid", 0))
    return found


def key_files(account, options):
    """Where sshd looks for public keys of this account."""
    patterns = " ".join(options.get("authorizedkeysfile", [".ssh/authorized_keys"])).split()
    return [os.path.join(account.pw_dir, pattern.replace("%h", account.pw_dir).replace("%u", account.pw_name)) for pattern in patterns]


def with_key(people, options):
    """Names of those of whom sshd would find a public key."""
    if options.get("authorizedkeyscommand", ["none"]) != ["none"] or options.get("trustedusercakeys", ["none"]) != ["none"]:
        return [account.pw_name for account in people]
    paths = {account.pw_name: key_files(account, options) for account in people}
    # A link is followed as its owner, as sshd does
    found = untrusted.read([path for several in paths.values() for path in several], KEYS, follow=True)
    return [name for name, several in paths.items() if any(is_key(line) for path in several for line in untrusted.records(text(found[path])))]


def is_key(line):
    return not line.lstrip().startswith("#") and bool(re.search(r"(ssh|ecdsa|sk)-\S+ \S{40,}", line))


def text(answer):
    """What was read; nothing where it could not be."""
    return answer.get("content", b"").decode(errors="replace")


def ssh(options):
    people = [account for account in pwd.getpwall() if account.pw_uid == 0 or 1000 <= account.pw_uid < 65000]
    return {
        "ports": sorted(int(port) for port in options.get("port", [])),
        "password_authentication": options.get("passwordauthentication", ["yes"]) == ["yes"],
        "permit_root_login": options.get("permitrootlogin", [None])[0],
        "users_with_key": sorted(with_key(people, options)),
        "connection": ssh_connection(),
    }


def file_systems():
    """Deepest mount point first, so that the first that a path begins with is the path's own."""
    found = {}
    for line in untrusted.records(system_text("/proc/self/mounts")):
        # At what the kernel writes between: it leaves other white space in a name as it is
        mount, kind = line.split(" ")[1:3]
        mount = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), mount)
        if kind in PSEUDO_FILE_SYSTEMS or mount.startswith(("/dev", "/proc", "/run", "/sys")) or not os.path.isdir(mount):
            continue
        try:
            state = os.statvfs(mount)
        except OSError:
            continue
        size = state.f_frsize * state.f_blocks >> 20
        if size:
            found[mount] = {"mount": mount, "size_mb": size, "free_mb": state.f_frsize * state.f_bavail >> 20}
    return sorted(found.values(), key=lambda entry: -len(entry["mount"]))


def parse_listening(*tables):
    """{inode: port} of the sockets that listen, from /proc/net/tcp and tcp6."""
    found = {}
    for line in untrusted.records("\n".join(tables)):
        words = line.split()
        if len(words) > 9 and words[3] == "0A":
            found[words[9]] = int(words[1].rpartition(":")[2], 16)
    return found


def listening():
    """Who listens at each TCP port: {'443': 'nginx'}."""
    ports = parse_listening(system_text("/proc/net/tcp"), system_text("/proc/net/tcp6"))
    found = {str(port): "a program" for port in ports.values()}
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in ports:
            found[str(ports[target[8:-1]])] = untrusted.plain(system_text("/".join(link.split("/")[:3]) + "/comm"))
    return found


def of_homes(homes):
    """What lies below homes: certificates, versions of PostgreSQL, registry logins. One question, for each is a process."""
    patterns = ["config/*/tls/*.crt", "*/PG_VERSION", "*/*/PG_VERSION", ".config/containers/auth.json"]
    found = untrusted.matching([f"{home}/{pattern}" for home in homes for pattern in patterns])
    # Whoever owns a home gives any name, and Ansible takes no answer with one that is no text
    return {path: one for path, one in found.items() if path.isprintable()}


def certificates_of_homes(below):
    """Their texts, by path; the first ones, where there are more than the collection would have made."""
    return {path: text(below[path]) for path in sorted(path for path in below if path.endswith(".crt"))[:MANY]}


def postgresql_majors(found):
    """{data directory: major version that wrote it}, for those up to two levels below a home."""
    majors = {os.path.dirname(path): untrusted.major(one.get("content")) for path, one in found.items() if path.endswith("/PG_VERSION")}
    return {path: str(major) for path, major in majors.items() if major is not None}


def login_digest(answer):
    """What tells one registry login file from another, and not what is in it."""
    login = text(answer)
    return hashlib.sha256(login.encode()).hexdigest() if login else None


def bus_answers(account):
    try:
        return untrusted.run(account.pw_uid, account.pw_gid, connects, f"/run/user/{account.pw_uid}/bus")
    except OSError:
        return False


def connects(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(path)
        except OSError:
            return False
    return True


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


def main():
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    linger = sorted(os.listdir("/var/lib/systemd/linger")) if os.path.isdir("/var/lib/systemd/linger") else []
    lingering = [accounts[name] for name in linger if name in accounts]
    running = {
        "podman": start("podman", "--version"),
        "netavark": start("/usr/lib/podman/netavark", "--version"),
        "nginx": start("nginx", "-v"),
        "openssl": start("openssl", "version"),
        "sshd": start("sshd", "-T"),
        "iptables": start("iptables", "--numeric", "--list", "ufw-user-input"),
        "systemctl": start(
            "systemctl",
            "show",
            "--property=Id,ActiveState",
            "network-online.target",
            *[f"user@{account.pw_uid}.service" for account in lingering],
        ),
    }
    below = of_homes([account.pw_dir for account in lingering])
    shown = {path: text(one) for path, one in untrusted.matching(CERTIFICATES, follow=True).items()}
    ufw_texts = [system_text("/etc/ufw/user.rules"), system_text("/etc/ufw/user6.rules")]
    rules, own, narrow = parse_ufw_rules(*ufw_texts)
    facts = {
        "version": VERSION,
        "certificates": certificates({**shown, **certificates_of_homes(below)}),
        "file_systems": file_systems(),
        "groups": {group.gr_name: group.gr_gid for group in grp.getgrall()},
        "ipv6": has_ipv6(system_text("/proc/net/if_inet6")),
        "linger": linger,
        "listening": listening(),
        "memory_mb": parse_memory(system_text("/proc/meminfo")),
        "packages": parse_installed(system_text("/var/lib/dpkg/status")),
        "release": last_release(system_text("/var/lib/senex.trader/releases.jsonl")),
        "postgresql_majors": postgresql_majors(below),
        "registry_logins": {account.pw_name: login_digest(below.get(f"{account.pw_dir}/.config/containers/auth.json", {})) for account in lingering},
        "resolvers": parse_resolvers([system_text("/etc/resolv.conf"), system_text("/run/systemd/resolve/resolv.conf")]),
        "quadlet": next((path for path in QUADLET_PATHS if os.path.exists(path)), None),
        "subuid": parse_subids(system_text("/etc/subuid")),
        "subgid": parse_subids(system_text("/etc/subgid")),
        "system": parse_system(system_text("/etc/os-release"), system_text("/etc/debian_version")),
        "swap_mb": parse_swaps(system_text("/proc/swaps")),
        "timezone": os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] or system_text("/etc/timezone").strip(),
        "users": {
            name: {"uid": account.pw_uid, "gid": account.pw_gid, "home": account.pw_dir, "shell": account.pw_shell} for name, account in accounts.items()
        },
    }
    states = parse_states(output(running["systemctl"]))
    facts["network_online"] = states.get("network-online.target") == "active"
    facts["ufw"] = {
        "active": bool(re.search(r"^ENABLED=yes", system_text("/etc/ufw/ufw.conf"), re.MULTILINE)) and succeeded(running["iptables"]),
        "denies_incoming": bool(re.search(r'^DEFAULT_INPUT_POLICY="DROP"', system_text("/etc/default/ufw"), re.MULTILINE)),
        "rules": rules,
        "own_rules": own,
        "narrow": narrow,
        "late": parse_ufw_late(*ufw_texts),
    }
    facts["user_manager"] = {account.pw_name: {"state": states.get(f"user@{account.pw_uid}.service"), "bus": bus_answers(account)} for account in lingering}
    facts["ssh"] = ssh(parse_sshd(output(running["sshd"])))
    for tool in ("podman", "netavark", "nginx", "openssl"):
        facts[f"{tool}_version"] = parse_version(output(running[tool]))
    print(json.dumps(facts, sort_keys=True))


if __name__ == "__main__":
    main()
