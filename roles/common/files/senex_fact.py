#!/usr/bin/python3 -IS
"""Facts of a senex.trader host, for Ansible: ansible_facts['ansible_local']['senex'].

Reads files where it can and starts all commands at once where it must: it runs with every fact
gathering. A tool that is missing gives an empty value, never an error.
"""

import glob
import grp
import hashlib
import json
import os
import pwd
import re
import socket
import subprocess
import types

import senex_fact_parsing as parsing  # role common puts the text of these modules here
import untrusted

if "untrusted" not in globals():
    parsing = untrusted = types.SimpleNamespace(**globals())  # in one file their names are here
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


def certificates(texts):
    extensions = "subjectAltName,subjectKeyIdentifier,authorityKeyIdentifier"
    command = ("openssl", "x509", "-passin", "pass:", "-noout", "-enddate", "-fingerprint", "-sha256", "-ext", extensions)
    running = {path: start(*command, stdin=subprocess.PIPE) for path in sorted(texts)}
    found = {path: parsing.parse_certificate(output(process, texts[path])) for path, process in running.items()}
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
    return [name for name, several in paths.items() if any(parsing.is_key(line) for path in several for line in untrusted.records(text(found[path])))]


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


def listening():
    """Who listens at each TCP port: {'443': 'nginx'}."""
    ports = parsing.parse_listening(system_text("/proc/net/tcp"), system_text("/proc/net/tcp6"))
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
    rules, own, narrow = parsing.parse_ufw_rules(*ufw_texts)
    facts = {
        "version": VERSION,
        "certificates": certificates({**shown, **certificates_of_homes(below)}),
        "file_systems": file_systems(),
        "groups": {group.gr_name: group.gr_gid for group in grp.getgrall()},
        "ipv6": parsing.has_ipv6(system_text("/proc/net/if_inet6")),
        "linger": linger,
        "listening": listening(),
        "memory_mb": parsing.parse_memory(system_text("/proc/meminfo")),
        "packages": parsing.parse_installed(system_text("/var/lib/dpkg/status")),
        "release": parsing.last_release(system_text("/var/lib/senex.trader/releases.jsonl")),
        "postgresql_majors": postgresql_majors(below),
        "registry_logins": {account.pw_name: login_digest(below.get(f"{account.pw_dir}/.config/containers/auth.json", {})) for account in lingering},
        "resolvers": parsing.parse_resolvers([system_text("/etc/resolv.conf"), system_text("/run/systemd/resolve/resolv.conf")]),
        "quadlet": next((path for path in QUADLET_PATHS if os.path.exists(path)), None),
        "subuid": parsing.parse_subids(system_text("/etc/subuid")),
        "subgid": parsing.parse_subids(system_text("/etc/subgid")),
        "system": parsing.parse_system(system_text("/etc/os-release"), system_text("/etc/debian_version")),
        "swap_mb": parsing.parse_swaps(system_text("/proc/swaps")),
        "timezone": os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] or system_text("/etc/timezone").strip(),
        "users": {
            name: {"uid": account.pw_uid, "gid": account.pw_gid, "home": account.pw_dir, "shell": account.pw_shell} for name, account in accounts.items()
        },
    }
    states = parsing.parse_states(output(running["systemctl"]))
    facts["network_online"] = states.get("network-online.target") == "active"
    facts["ufw"] = {
        "active": bool(re.search(r"^ENABLED=yes", system_text("/etc/ufw/ufw.conf"), re.MULTILINE)) and succeeded(running["iptables"]),
        "denies_incoming": bool(re.search(r'^DEFAULT_INPUT_POLICY="DROP"', system_text("/etc/default/ufw"), re.MULTILINE)),
        "rules": rules,
        "own_rules": own,
        "narrow": narrow,
        "late": parsing.parse_ufw_late(*ufw_texts),
    }
    facts["user_manager"] = {account.pw_name: {"state": states.get(f"user@{account.pw_uid}.service"), "bus": bus_answers(account)} for account in lingering}
    facts["ssh"] = ssh(parsing.parse_sshd(output(running["sshd"])))
    for tool in ("podman", "netavark", "nginx", "openssl"):
        facts[f"{tool}_version"] = parsing.parse_version(output(running[tool]))
    print(json.dumps(facts, sort_keys=True))


if __name__ == "__main__":
    main()
