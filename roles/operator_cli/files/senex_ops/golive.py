"""Before the public comes: what changes by decisions and not by itself, so status does not ask it every day. Changes nothing."""

from __future__ import annotations

import glob
import os
import re
import smtplib
import time

from senex_host import untrusted

from . import checks_backups, delivery, status
from . import config as schema
from .findings import Check, Finding, fail, ok, warn
from .golive_site import SITE

ANYWHERE = ("0.0.0.0", "*", "[::]")  # noqa: S104  (read, not bound)
PUBLIC = ("sshd", "systemd", "nginx")
COPIES = {"dump": "backup dump", "base": "pitr base", "drill": "pitr drill", "offsite": "backup offsite"}


def read_exposure(host, config) -> list[list[str]]:
    """[address, port, program] of every TCP socket that listens."""
    found = []
    for line in untrusted.records(host.run("ss", "-Hltnp").out):
        words = line.split()
        if len(words) > 3:
            address, _, port = words[3].rpartition(":")
            names = re.findall(r'\("([^"]+)"', line)
            found.append([address, port, names[0] if names else "?"])
    return found


def judge_exposure(data: list[list[str]], config, now: float) -> list[Finding]:
    """On every address listen sshd and nginx alone; the firewall is the second wall, not the first."""
    strangers = sorted({f"{program} on port {port}" for address, port, program in data if address in ANYWHERE and program not in PUBLIC})
    if strangers:
        return [fail("exposure", f"every address of the host has {', '.join(strangers)}",
                     "stop it, or have it listen on 127.0.0.1 or senex_private_address; ss -ltnp shows who it is")]  # fmt: skip
    return [ok("exposure", "only ssh and nginx listen on every address")]


def read_firewall(host, config) -> str:
    """ufw's own word."""
    return host.run("ufw", "status", "verbose").out


def judge_firewall(data: str, config, now: float) -> list[Finding]:
    """On, and denying what nobody allowed."""
    if "Status: active" not in data:
        return [fail("firewall", "is off", "run the playbook with --tags common (common_firewall_enabled: true)")]
    if not re.search(r"^Default: (deny|reject) \(incoming\)", data, re.MULTILINE):
        return [fail("firewall", "lets in what no rule names", "ufw default deny incoming; or run the playbook with --tags common")]
    return [ok("firewall", "denies what no rule allows")]


def read_ssh(host, config) -> dict:
    """What sshd would do now."""
    return dict(line.split(" ", 1) for line in untrusted.records(host.run("sshd", "-T").out) if " " in line)


def judge_ssh(data: dict, config, now: float) -> list[Finding]:
    """Keys alone."""
    if not data:
        return [fail("ssh", "sshd refuses its own configuration", "sshd -t says which line")]
    wrong = [name for name, bad in (("passwordauthentication", "yes"), ("permitrootlogin", "yes"), ("permitemptypasswords", "yes")) if data.get(name) == bad]
    if wrong:
        says = f"sshd has {', '.join(f'{name} yes' for name in wrong)}"
        return [fail("ssh", says, "run the playbook with --tags common (common_ssh_hardening_enabled, common_ssh_password_authentication)")]
    return [ok("ssh", "keys alone")]


def judge_copies(data: list[dict], config, now: float) -> list[Finding]:
    """Each kind of copy was made once, and one was restored once."""
    if not config.database:
        do = "try it there: nothing here makes a copy, and what nobody restored is none"
        theirs = [f"{one.host}:{one.port}" for one in config.elsewhere if one.what == "database"]
        return [warn("copies", f"of the database are made by whoever has {server}: has a restore of one been tried?", do) for server in theirs]
    found, results = [], {one["job"]: one["result"] for one in data}
    for job, words in COPIES.items():
        if job not in results:
            what = "no copy leaves this host: backup_offsite_repository" if job == "offsite" else f"its job '{job}' is not installed"
            found.append(fail(f"copies {job}", what, "set it, then run the playbook with --tags backup,pitr"))
        elif results[job] != "ok":
            found.append(fail(f"copies {job}", f"was never done well so far ({results[job]})", f"senex {words}"))
    return found or [ok("copies", "dump, base backup and off-site copy were made, and a restore was tried")]


def read_reboot(host, config) -> dict:
    """The kernel that runs, those installed, and when this system started and the stack came to it."""
    with open("/proc/1/stat", encoding="ascii") as handle:
        ticks = int(handle.read().rpartition(")")[2].split()[19])
    up = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    linger = f"/var/lib/systemd/linger/{host.user}"
    installed = [path.removeprefix("/boot/vmlinuz-") for path in glob.glob("/boot/vmlinuz-*")]
    return {"runs": os.uname().release, "installed": installed, "up": up, "stack": os.stat(linger).st_mtime if os.path.exists(linger) else None}


def judge_reboot(data: dict, config, now: float) -> list[Finding]:
    """The newest kernel runs, and the stack has come back from a boot once."""
    if data["installed"] and data["runs"] not in data["installed"]:
        return [fail("boot", f"the kernel that runs, {data['runs']}, is not installed any more", "reboot; everything comes back by itself")]
    newest = max(data["installed"], key=lambda name: [int(part) for part in re.findall(r"\d+", name)], default=data["runs"])
    if newest != data["runs"]:
        return [fail("boot", f"{data['runs']} runs, and {newest} is installed", "reboot; everything comes back by itself")]
    if data["stack"] and now - data["up"] < data["stack"]:
        return [warn("boot", "the host was not rebooted since the stack came to it", "reboot once and look at senex status: better now than at night")]
    return [ok("boot", "the stack has come back from a boot of the newest kernel")]


def read_updates(host, config) -> dict:
    """Whether security updates come by themselves."""
    return {"timer": host.run("systemctl", "is-active", "apt-daily-upgrade.timer").out.strip(),
            "on": 'APT::Periodic::Unattended-Upgrade "1"' in host.run("apt-config", "dump").out}  # fmt: skip


def judge_updates(data: dict, config, now: float) -> list[Finding]:
    """They do."""
    if data["timer"] != "active" or not data["on"]:
        return [fail("updates", f"security updates do not come by themselves (timer {data['timer']}, switched {'on' if data['on'] else 'off'})",
                     "run the playbook with --tags common (common_unattended_upgrades_enabled); systemctl enable --now apt-daily-upgrade.timer")]  # fmt: skip
    return [ok("updates", "security updates come by themselves")]


def read_secrets(host, config) -> dict[str, int]:
    """Modes of the files that hold secrets."""
    paths = [f"{host.home}/.config/containers/{name}" for name in ("systemd/.env", "auth.json")]
    paths += [schema.SECRETS, *glob.glob("/etc/nginx/senex/tls/*.key")]
    return {path: seen["mode"] for path, seen in untrusted.look(paths).items() if "mode" in seen}


def judge_secrets(data: dict[str, int], config, now: float) -> list[Finding]:
    """Their owners' alone."""
    wide = sorted(path for path, mode in data.items() if mode & 0o077)
    if wide:
        # Below the home as who owns it: a link there would lead root to any file of the host
        below = [path for path in wide if path.startswith(f"{config.home}/")]
        own = [path for path in wide if path not in below]
        do = [f"{who}chmod 600 {' '.join(paths)}" for who, paths in (("", own), (f"runuser --pty -u {config.user} -- ", below)) if paths]
        return [fail("secrets", f"others may read {', '.join(wide)}", f"{'; '.join(do)}; then think of what was read: playbooks/secrets.yml")]
    return [ok("secrets", f"{len(data)} files are their owners' alone")]


def read_told(host, config) -> dict:
    """Which ways out there are."""
    secrets = schema.read(schema.SECRETS, schema.Secrets)
    ways = (["mail"] if config.notify.mail else []) + (["webhook"] if config.notify.webhook and secrets.webhook_url else [])
    return {"ways": ways, "heartbeat": bool(secrets.heartbeat_url)}


def judge_told(data: dict, config, now: float) -> list[Finding]:
    """Somebody is told, and of a host that is gone altogether too."""
    if not data["ways"]:
        return [fail("notices", "nobody is told of trouble", "set watchdog_mail_to (senex_admin_email) or watchdog_webhook_url")]
    found = [ok("notices", f"go out by {' and '.join(data['ways'])}; --notice (golive_notice=true) sends one")]
    if not data["heartbeat"]:
        found.append(warn("heartbeat", "nobody notices when the whole host is gone", "set watchdog_heartbeat_url to a check of an outside monitor"))
    return found


def read_notice(host, config) -> dict[str, str]:
    """Send a test notice each way; '' where it was taken, else why not."""
    secrets, done = schema.read(schema.SECRETS, schema.Secrets), {}
    subject, lines = f"[{config.environment}] {config.host}: a test", ["A test notice, sent by hand before going live. Tell whoever sent it that it came."]
    about = {"host": config.host, "environment": config.environment}
    senders = {}
    if mail := config.notify.mail:
        senders[f"mail to {', '.join(mail.to)}"] = lambda: delivery.send_mail(mail, secrets.smtp_password, subject, lines)
    if config.notify.webhook and secrets.webhook_url:
        senders["webhook"] = lambda: delivery.send_webhook(config.notify.webhook, secrets.webhook_url, subject, lines, about)
    for name, send in senders.items():
        try:
            send()
            done[name] = ""
        except (OSError, smtplib.SMTPException) as error:
            done[name] = str(error) or type(error).__name__
    return done


def judge_notice(data: dict[str, str], config, now: float) -> list[Finding]:
    """Each was taken."""
    return [fail(f"notice by {name}", f"was not taken: {trouble}", "watchdog_smtp_*, watchdog_webhook_url; then --tags watchdog") if trouble
            else ok(f"notice by {name}", "was taken; whether it came, only its reader knows") for name, trouble in data.items()]  # fmt: skip


CHECKS = [
    *SITE,
    Check("exposure", read_exposure, judge_exposure),
    Check("firewall", read_firewall, judge_firewall),
    Check("ssh", read_ssh, judge_ssh),
    Check("copies", checks_backups.read_backups, judge_copies),
    Check("boot", read_reboot, judge_reboot),
    Check("updates", read_updates, judge_updates),
    Check("secrets", read_secrets, judge_secrets),
    Check("notices", read_told, judge_told),
]
NOTICE = Check("notice", read_notice, judge_notice)


def show(host, config, machine: bool, notice: bool) -> int:
    """What status says, and then this."""
    return status.show(host, config, machine, [*status.CHECKS, *CHECKS, *([NOTICE] if notice else [])])
