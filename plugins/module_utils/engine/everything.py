"""All that the collection has put on a host goes, by the manifests that it has left. Data stays: nothing here removes or opens a directory of data."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import Component
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import ASIDE, UNIT_PATHS, SystemComponent, SystemTransaction, command
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, kept_data, owned, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.rotation_mark import RotationMark
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

# What a person keeps, below the home
DATA = ("data", "backups", "logs")
PART = "senex-trader.tar.part"  # an archive that is being written
# In this order: who serves before what it stands on. What is not named comes between `redis` and `podman`
FIRST = ("celery", "django", "backup", "pitr", "redis-cache", "redis", "postgresql")
LAST = ("podman",)
# First what would start things again; last what the others read
SYSTEM_FIRST = ("watchdog", "nginx")
SYSTEM_LAST = ("common", "host-library")
# What these run are units of packages, which listen at every address and ask for nothing once our drop-ins are gone
CLOSED_BY_US = ("etcd", "exporters", "monitoring", "pgbouncer")
# Of these, what the application stands on until it has ended
STOOD_ON = ("pgbouncer",)
DROP_IN = re.compile(r"/etc/systemd/system/([\w@.\\-]+\.service)\.d/.+")
UNIT = re.compile(r"[\w@.\\-]+\.(?:service|timer|path|socket|swap)")
# Programs that read what was removed: a change below the path is told to them, where they run
TOLD = {
    "/etc/ssh/": ["systemctl", "try-reload-or-restart", "ssh.service"],
    "/etc/systemd/journald.conf.d/": ["systemctl", "try-restart", "systemd-journald.service"],
    "/etc/fail2ban/": ["systemctl", "try-restart", "fail2ban.service"],
    "/etc/sysctl.d/": ["sysctl", "--system", "--quiet"],
    "/etc/ufw/": ["ufw", "reload"],
}
# The collection's own, which no manifest has: certificates that were made on the host. Root's alone, so no one else's names are in it
MADE = (
    "/etc/nginx/senex/tls",
    "/etc/nginx/senex/site.d",
    "/etc/nginx/senex",
    "/etc/senex-trader/tls",
    "/etc/senex-trader",
    "/run/senex-pgbouncer-key",
    "/usr/local/lib/senex-trader/senex_ops/postgresql",
    "/usr/local/lib/senex-trader/senex_ops",
    "/usr/local/lib/senex-trader/senex_host",
    "/usr/local/lib/senex-trader",
)
OWN = re.compile(r"(.+) comment 'senex\.trader[^']*'")


def ordered(names: list[str], first: tuple, last: tuple) -> list[str]:
    """Names in their turn."""
    return [*(name for name in first if name in names), *(name for name in names if name not in first + last), *(name for name in last if name in names)]


class Host:
    """What is on one host."""

    def __init__(self, user: str, home: str, directory: str = fileset.MANIFESTS):
        self.home, self.directory = home.rstrip("/"), directory
        self.user = ServiceUser(user, self.home) if account_there(user) else None
        self.manifests = {name: Manifest(name, directory) for name in fileset.components(directory)}

    def is_user(self, name: str) -> bool:
        """Whether a component is the service user's: its files lie below the home."""
        found = self.manifests[name]
        return bool(found.units or found.secrets) or any(path.startswith(f"{self.home}/") for path in found.files)

    @property
    def of_user(self) -> list[str]:
        """Components of the service user, in the order in which they go."""
        return ordered([name for name in self.manifests if self.is_user(name)], FIRST, LAST)

    @property
    def of_system(self) -> list[str]:
        """Root's components, in the order in which they go."""
        return ordered([name for name in self.manifests if not self.is_user(name)], SYSTEM_FIRST, SYSTEM_LAST)

    def system_units(self) -> list[str]:
        """Units of the system whose file is ours, and not what a drop-in of ours is for: but for those that it alone keeps closed."""
        paths = [path for name in self.of_system for path in self.manifests[name].files]
        own = [os.path.basename(path) for path in paths if f"{os.path.dirname(path)}/" in UNIT_PATHS and UNIT.fullmatch(os.path.basename(path))]
        return own + [unit for name in self.of_system if name in CLOSED_BY_US for unit in self.closed_units(name)]

    def closed_units(self, name: str) -> list[str]:
        """Units of packages that a component has a drop-in for."""
        return [found[1] for path in self.manifests[name].files if (found := DROP_IN.fullmatch(path))] if name in self.manifests else []

    def data_names(self) -> list[str]:
        """Directories below the home that a person keeps: the usual ones, and wherever a run has noted data. Also when the account is gone already."""
        noted = [path for component in fileset.components(self.directory, kept_data.SUFFIX) for path in kept_data.noted(component, self.directory)]
        below = [path.removeprefix(f"{self.home}/").partition("/")[0] for path in noted if path.startswith(f"{self.home}/")]
        return [name for name in dict.fromkeys([*DATA, *below]) if name and untrusted.kind(f"{self.home}/{name}", follow=False) == "directory"]

    def data(self) -> list[dict]:
        """What stays, with its size: by the user's own eyes, as long as there is one."""
        words, found = ["du", "--summarize", "--block-size=1", "--"], []
        for path in [f"{self.home}/{name}" for name in self.data_names()]:
            shown = self.user.podman("unshare", *words, path, check=False, timeout=900) if self.user else command([*words, path])
            told = shown.stdout.split()
            found.append({"path": path, "bytes": int(told[0]) if told and told[0].isdigit() else 0, "mount": is_mount(path)})
        return found

    def rules(self) -> list[str]:
        """Rules of the firewall that are the collection's, as ufw takes them; not what lets ssh in, without which nobody could log in."""
        shown = command(["ufw", "show", "added"]).stdout
        own = [found[1].removeprefix("ufw ") for line in shown.split("\n") if (found := OWN.fullmatch(line.strip()))]
        ports = re.findall(r"^port (\d+)$", command(["/usr/sbin/sshd", "-T"]).stdout, re.MULTILINE) or ["22"]
        return [rule for rule in own if not any(re.search(rf"\b{port}(/tcp)?\b", rule) for port in ports)]

    def plan(self) -> dict:
        """What would go and what stays."""
        containers = self.user.podman("ps", "--all", "--quiet", check=False).stdout.split() if self.user else []
        images = set(self.user.podman("images", "--quiet", check=False).stdout.split()) if self.user else set()
        volumes = self.user.podman("volume", "ls", "--quiet", check=False).stdout.split() if self.user else []
        return {
            "components": [*self.of_system, *self.of_user], "containers": len(containers), "images": len(images), "volumes": volumes,
            "units": [unit for name in self.of_user for unit in self.manifests[name].units] + self.system_units(),
            "files": sum(len(one.files) + len(one.blocks) for one in self.manifests.values()), "rules": self.rules(), "data": self.data(),
            "account": self.user is not None, "home": self.home, "mount": is_mount(self.home),
        }  # fmt: skip

    # What is done, one after the other; each may be done again after a run that was cut short

    def stop_system(self) -> list[str]:
        """Units of ours, the watchdog first: it would start again what stops. Not yet what the application stands on."""
        later = [unit for name in STOOD_ON for unit in self.closed_units(name)]
        going = [unit for unit in self.system_units() if unit not in later]
        for unit in going:
            command(["systemctl", "disable", "--now", unit])
        return going

    def remove_user(self, still=lambda: None) -> list[str]:
        """Units, containers, files and secrets of the service user; then what Podman has left."""
        if self.user is None:
            return []
        command(["systemctl", "start", f"user@{self.user.uid}.service"])  # a removal that was cut short has stopped it
        self.user.check_manager()
        gone = self.of_user
        for name in gone:
            still()
            Transaction(Component(name), self.user, present=False).run(check=False)
        for words in (["rm", "--all", "--force", "--time=10"], ["rmi", "--all", "--force"], ["network", "prune", "--force"]):
            self.user.podman(*words, check=False, timeout=900)
        return gone

    def end_account(self) -> None:
        """The service user's manager and whatever still runs as it end."""
        if self.user is None:
            return
        for words in (["loginctl", "disable-linger", self.user.name], ["systemctl", "stop", f"user@{self.user.uid}.service"]):
            command(words)
        if os.path.exists("/usr/bin/pkill"):
            command(["pkill", "-KILL", "--euid", str(self.user.uid)])
        give_up = time.monotonic() + 20
        while self.processes() and time.monotonic() < give_up:
            time.sleep(0.2)
        if left := self.processes():
            raise OSError(f"processes of {self.user.name} go on: {', '.join(left)}")

    def processes(self) -> list[str]:
        """Names of what runs as the service user."""
        shown = command(["pgrep", "--list-name", "--euid", str(self.user.uid)]).stdout if self.user else ""
        return sorted({untrusted.plain(line.partition(" ")[2], 50) for line in untrusted.records(shown) if line})

    def remove_system(self, still=lambda: None) -> list[str]:
        """Root's files; what was there before comes back from where it was put aside, and who reads it is told."""
        for unit in [unit for name in STOOD_ON for unit in self.closed_units(name)]:
            command(["systemctl", "disable", "--now", unit])
        gone, paths = self.of_system, [path for one in self.manifests.values() for path in (*one.files, *one.blocks)]
        swaps = [path for path in paths if path.endswith(".swap")]
        files = [found[1] for path in swaps if (found := re.search(r"^What=(/\S+)$", (fileset.read(path)[0] or b"").decode(), re.MULTILINE))]
        for name in gone:
            still()
            SystemTransaction(SystemComponent(name), present=False).run(check=False)
        for path in files:
            if path not in command(["swapon", "--noheadings", "--show=NAME"]).stdout.split():
                fileset.swap([(path, None, (0, 0, 0))])
        restored = restore_originals()
        command(["systemctl", "daemon-reload"])
        for place, words in TOLD.items():
            if any(path.startswith(place) for path in [*paths, *restored]):
                command(words)
        remove_made()
        RotationMark(self.directory).forget()
        return gone

    def remove_rules(self) -> list[str]:
        """The collection's rules of the firewall."""
        gone = self.rules()
        for rule in gone:
            command(["ufw", "--force", "delete", *rule.split()])
        return gone

    def remove_account(self, others: list[str]) -> list[str]:
        """Accounts go, their files stay, with numbers for owners: the same inventory gives them the same numbers again."""
        gone = [name for name in [*([self.user.name] if self.user else []), *others] if account_there(name)]
        for name in gone:
            done = command(["userdel", name])
            if done.returncode:
                raise OSError(f"userdel {name}: {done.stderr.strip()}")
            command(["groupdel", name])
        return gone


def account_there(name: str) -> bool:
    """Whether the host has an account of this name."""
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def is_mount(path: str) -> bool:
    """Whether a file system is mounted there, by the kernel's own list."""
    return any(row[0] == path for row in owned.mounts())


def restore_originals() -> list[str]:
    """Files that were there before ours come back where nothing has taken their place; the copies stay."""
    back = []
    for directory, _, names in os.walk(ASIDE):
        for name in names:
            copy = os.path.join(directory, name)
            path = copy.removeprefix(ASIDE)
            fileset.own_ground([path])
            if not os.path.lexists(path) and os.path.isdir(os.path.dirname(path)):
                shutil.copy2(copy, path, follow_symlinks=False)
                back.append(path)
    return back


def remove_made() -> None:
    """Keys and certificates that were made here, and the directories that are empty then."""
    for place in MADE:
        for name in os.listdir(place) if os.path.isdir(place) else []:
            path = os.path.join(place, name)
            if (name.endswith((".key", ".crt", ".csr", ".pyc")) or place.startswith("/run/")) and os.path.isfile(path):
                fileset.swap([(path, None, (0, 0, 0))])
        with contextlib.suppress(OSError):  # something of somebody else's
            os.rmdir(place)


def set_aside(home: str, stamp: str) -> str:
    """Another name for the home, of which nobody is the owner any more."""
    place = f"{home}.removed-{stamp}"
    fileset.own_ground([home])
    os.rename(home, place)
    return place


def megabytes(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 1e6:.0f} MB"


def no_room(home: str, directory: str, total: int) -> str:
    """Why data of so many bytes cannot be archived in a directory, said before anything goes; empty where it can."""
    if not os.path.isdir(directory):
        return f"remove_archive_directory: {directory} is no directory of this host: make it, or name another one"
    if f"{os.path.realpath(directory)}/".startswith(f"{os.path.realpath(home)}/"):
        return f"remove_archive_directory: {directory} lies in {home}, which is to be archived: name another place"
    part = os.path.join(directory, PART)
    try:
        fileset.own_ground([part])
    except OSError as error:
        return f"remove_archive_directory: {error}"
    free = shutil.disk_usage(directory).free + (os.stat(part).st_blocks * 512 if os.path.exists(part) else 0)
    if free < 1.1 * total:
        says = f"has {megabytes(free)} free, and the data is {megabytes(total)}"
        return f"remove_data: {directory} {says}: make room, or name another place with remove_archive_directory"
    return ""


def archive(home: str, names: list[str], target: str) -> str:
    """The data in one file, by numbers of owners, which has its name when it is whole. Nothing of the service user runs any more."""
    part = f"{os.path.dirname(target)}/{PART}"  # one name for all runs: what a killed one left takes no room for long
    fileset.swap([(part, b"", (0o600, 0, 0))])  # a name of ours, that nobody else may read
    words = ["tar", "--numeric-owner", "--acls", "--xattrs", "--sparse", f"--directory={home}", "--create", f"--file={part}"]
    done = subprocess.run([*words, "--", *names], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise OSError(f"{part} is not whole, tar ended with {done.returncode}: {untrusted.lines(done.stderr.strip()[-500:])}")
    words = ["tar", "--numeric-owner", f"--directory={home}", "--compare", f"--file={part}"]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise OSError(f"{part} is not what {home} holds: {untrusted.lines((done.stdout + done.stderr).strip()[-500:])}")
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(part, target)
    return target
