"""What is in force of the settings that other configuration can override: read from whoever obeys them, not from the files.

The list of what is wanted has one owner, role common, which writes it to WANTED. A run verifies it and `senex status` watches it.
Standard library alone, and no import from __future__: role common installs this file with the library of the programs on the
host (senex_host); the watchdog runs it as a program.
"""

import glob
import ipaddress
import json
import os
import re
import subprocess

WANTED = "/etc/senex-trader/in-force.json"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
PATIENCE = 30
SSHD = "/etc/ssh/sshd_config"
SSHD_OWN = "/etc/ssh/sshd_config.d/00-senex.conf"
SYSCTL_OWN = "/etc/sysctl.d/99-senex.conf"
UFW_SYSCTL = "/etc/ufw/sysctl.conf"  # read after all others at each boot, where ufw is on
# Root from an address that is nobody's, so that a block `Match User root` or `Match all` shows
SSHD_ROOT = "user=root,host=localhost,addr=192.0.2.1,laddr=192.0.2.2,lport=22"
SAME = {"prohibit-password": "without-password"}
SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# Programs in Python: all else together takes less time than one of them
SLOW = ("fail2ban", "ufw")
NOT_TAKEN = "the kernel did not take it; where it is another machine's (a container), leave it out by `null` in common_sysctl_overrides"


class Unknown(Exception):
    """Whoever obeys the settings gives no answer."""


def questions(wanted):
    """The commands that tell, by a name of their own."""
    asked = {
        "sshd": {"sshd": ["sshd", "-T"], "sshd root": ["sshd", "-T", "-C", SSHD_ROOT]},
        "sysctl": {"sysctl": ["/usr/lib/systemd/systemd-sysctl", "--cat-config"]},
        "systemd": {name: ["systemd-analyze", "cat-config", name] for name in wanted.get("systemd", ())},
        "fail2ban": {f"fail2ban {name}": ["fail2ban-client", "get", "sshd", name] for name in wanted.get("fail2ban", ())},
        "ufw": {"ufw": ["ufw", "status", "verbose"]},
        "apt": {"apt": ["apt-config", "dump"]},
        "units": {"units": ["systemctl", "show", "--property=Id,ActiveState,UnitFileState", *wanted.get("units", ())]},
    }
    return {name: argv for owner, several in asked.items() if wanted.get(owner) for name, argv in several.items()}


def ask(commands):
    """(status, what it said) of each; all at once."""
    running, found = {}, {}
    for name, argv in commands.items():
        try:
            running[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT, cwd="/", text=True, errors="replace"
            )
        except OSError as error:
            found[name] = (127, f"{argv[0]}: {error.strerror}")
    for name, process in running.items():
        try:
            text = process.communicate(timeout=PATIENCE)[0]
            found[name] = (process.returncode, text)
        except subprocess.TimeoutExpired:
            process.kill()
            found[name] = (124, f"no answer within {PATIENCE} s")
    return found


def said(answers, name):
    """What a command said; Unknown where it failed."""
    code, text = answers[name]
    if code:
        lines = text.strip().splitlines()
        raise Unknown(f"cannot be asked: {lines[-1][:200] if lines else f'ended with {code}'}")
    return text


def trouble(setting, says, origin=""):
    """One setting that is not in force."""
    return {"setting": setting, "says": says, "origin": origin}


def lines_of(path):
    """Lines of a file of root's; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read().split("\n")
    except OSError:
        return []


# --- sshd ------------------------------------------------------------------------------------------------------------------------


def sshd_lines(path=SSHD, matched=False, depth=0):
    """(file, line, key, value, whether in a Match block) in the order in which sshd reads; the first value of a key holds."""
    for number, line in enumerate(lines_of(path), 1):
        words = re.split(r"[\s=]+", line.strip(), maxsplit=1)
        key, value = words[0].lower(), words[1].strip().strip('"') if len(words) > 1 else ""
        if not key or key.startswith("#"):
            continue
        if key == "match":
            matched = True
        elif key == "include" and depth < 16:
            for pattern in value.split():
                for name in sorted(glob.glob(os.path.join(os.path.dirname(SSHD), pattern))):
                    yield name, 0, "", "", matched
                    yield from sshd_lines(name, matched, depth + 1)
        yield path, number, key, value, matched


def sshd_origin(name, wanted, of_match):
    """Where sshd has another value from."""
    read = list(sshd_lines())
    if os.path.exists(SSHD) and not any(path == SSHD_OWN and not matched for path, _, _, _, matched in read):
        return f"{SSHD} does not read {SSHD_OWN}: put the line `Include /etc/ssh/sshd_config.d/*.conf` before all others there"
    for path, number, key, value, matched in read:
        if key == name.lower() and matched == of_match and same(value) != same(wanted):
            return f"{path} line {number} sets it{' in a Match block' if of_match else ', which sshd reads first'}"
    return ""


def same(value):
    """A value of sshd's as it can be compared."""
    text = str(value).lower()
    return SAME.get(text, text)


def judge_sshd(wanted, answers):
    """Of sshd itself, and of a login of root's. One that systemd starts with the first connection (Ubuntu) has no directory until then."""
    if "privilege separation directory" in answers["sshd"][1]:
        return
    values = dict(line.strip().partition(" ")[::2] for line in reversed(said(answers, "sshd").split("\n")))
    code, text = answers["sshd root"]
    of_root = dict(line.strip().partition(" ")[::2] for line in reversed(text.split("\n"))) if code == 0 else values
    for name, value in wanted.items():
        for found, who in ((values, ""), (of_root, " for root")):
            now = found.get(name.lower(), "not set")
            if same(now) != same(value):
                yield trouble(f"sshd {name}", f"is {now}{who}, not {value}", sshd_origin(name, value, bool(who)))
                break


# --- sysctl ----------------------------------------------------------------------------------------------------------------------


def proc_path(key):
    """net.ipv4.ip_forward and net/ipv4/ip_forward alike; a dot in the name of an interface is a slash in the first form."""
    key = key.strip().lstrip("-")
    first = re.search(r"[./]", key)
    return key if first and first[0] == "/" else key.translate(str.maketrans("./", "/."))


def assignments(text, path=""):
    """(file, section, key, value) of what `cat-config` prints, in its order."""
    section, before = "", ""
    for line in text.split("\n"):
        header = re.fullmatch(r"# (/\S+)", line)
        if header and not before.strip():
            path, section = header[1], ""
        elif re.fullmatch(r"\[.+\]", line.strip()):
            section = line.strip()[1:-1]
        elif "=" in line and line.strip()[0] not in "#;":
            key, _, value = line.partition("=")
            yield path, section, key.strip(), value.strip()
        before = line


def judge_sysctl(wanted, answers, root="/proc/sys"):
    """Of the kernel now, and of what the next boot would make of it."""
    code, text = answers["sysctl"]
    later = {proc_path(key): (path, value) for path, _, key, value in assignments(text if code == 0 else "")}
    if os.path.exists(UFW_SYSCTL):
        later.update({proc_path(key): (path, value) for path, _, key, value in assignments("\n".join(lines_of(UFW_SYSCTL)), UFW_SYSCTL)})
    for key, value in wanted.items():
        name = proc_path(key)
        now = " ".join(" ".join(lines_of(os.path.join(root, name))).split())
        if not now:
            continue  # this kernel or container does not have it
        path, then = later.get(name, ("", ""))
        foreign = path not in ("", SYSCTL_OWN)
        if now != " ".join(str(value).split()):
            origin = f"{path} sets it" if foreign else NOT_TAKEN
            yield trouble(f"sysctl {key}", f"is {now}, not {value}", origin)
        elif foreign and " ".join(then.split()) != now:
            yield trouble(f"sysctl {key}", f"is {now}, and {then} after the next boot", f"{path} sets it")


# --- systemd's own files ---------------------------------------------------------------------------------------------------------


def judge_systemd(wanted, answers):
    """Of systemd's daemons: the last file that says something holds."""
    for name, values in wanted.items():
        last = {key: (value, path) for path, _, key, value in assignments(said(answers, name))}
        for key, value in values.items():
            now, path = last.get(key, ("", ""))
            if now != str(value):
                yield trouble(f"{os.path.basename(name)} {key}", f"is {now or 'its default'}, not {value}", f"{path} sets it" if path else "")


# --- fail2ban --------------------------------------------------------------------------------------------------------------------


def span(text):
    """`10m` in seconds; None for what only fail2ban itself can tell."""
    parts = re.findall(r"(-?\d+)\s*([smhdw]?)", str(text))
    whole = "".join(number + unit for number, unit in parts)
    return sum(int(number) * SPANS.get(unit, 1) for number, unit in parts) if whole == re.sub(r"\s", "", str(text)) and whole else None


def network(text):
    """10.1.2.3/8 and 10.0.0.0/8 are the same; a name stays one."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text


def judge_fail2ban(wanted, answers):
    """Of the jail that watches sshd."""
    for name, value in wanted.items():
        text = said(answers, f"fail2ban {name}")
        if isinstance(value, list):
            now = {network(word) for word in re.findall(r"^[|`]- *(\S+)", text, re.MULTILINE)}
            missing, more = sorted({network(word) for word in value} - now), sorted(now - {network(word) for word in value})
            if missing or more:
                says = "; ".join([f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(more)} too"] * bool(more))
                yield trouble(f"fail2ban {name}", says, named(name, "/etc/fail2ban/jail.d/*", "/etc/fail2ban/jail.local"))
        elif span(value) is not None and text.strip() != str(span(value)):
            yield trouble(f"fail2ban {name}", f"is {text.strip()}, not {value}", named(name, "/etc/fail2ban/jail.d/*", "/etc/fail2ban/jail.local"))


def named(name, *patterns):
    """The files that name a setting, other than the collection's own."""
    line = re.compile(rf"^[^#;/]*\b{re.escape(name)}\b", re.MULTILINE)
    paths = [path for pattern in patterns for path in sorted(glob.glob(pattern)) if "senex" not in os.path.basename(path)]
    found = [path for path in paths if line.search("\n".join(lines_of(path)))]
    return f"{', '.join(found)} names it" if found else ""


# --- ufw, apt, units -------------------------------------------------------------------------------------------------------------


def judge_ufw(wanted, answers):
    """Of the firewall."""
    text = said(answers, "ufw")
    status = re.search(r"^Status: (\S+)", text, re.MULTILINE)
    incoming = re.search(r"^Default: (\S+) \(incoming\)", text, re.MULTILINE)
    for name, found, good in (("status", status, [wanted["status"]]), ("incoming", incoming, [wanted["incoming"], "reject"])):
        now = found[1] if found else "unknown"
        if now not in good:
            yield trouble(f"ufw {name}", f"is {now}, not {wanted[name]}", "/etc/default/ufw says so" if name == "incoming" else "somebody switched it off")
            return


def judge_apt(wanted, answers):
    """Of apt, which unattended-upgrades asks. A value is a list where apt has one."""
    lists, values = {}, {}
    for name, value in re.findall(r'^(\S+) "(.*)";$', said(answers, "apt"), re.MULTILINE):
        if name.endswith("::"):
            lists.setdefault(name[:-2], []).append(value)
        else:
            values[name] = value
    for name, value in wanted.items():
        if isinstance(value, list):
            now = lists.get(name, [])
            wrong = [one for one in value if one not in now], [one for one in now if one not in value]
            says = "; ".join([f"lacks {', '.join(wrong[0])}"] * bool(wrong[0]) + [f"has {', '.join(wrong[1])} too"] * bool(wrong[1]))
            wrong_at_all = wrong[0] or (wrong[1] and name.endswith("Blacklist"))  # more origins are more updates, and somebody's decision
        else:
            now = values.get(name, "")
            says, wrong_at_all = f"is {now or 'not set'}, not {value}", now != str(value) and not (not now and name == "APT::Periodic::Enable")
        if wrong_at_all:
            # Of files that spell it out the last one counts; others may have it in blocks
            places = "/etc/apt/apt.conf.d/*", "/etc/apt/apt.conf"
            yield trouble(f"apt {name}", says, named(name, *places).rpartition(", ")[2] or named(name.rpartition("::")[2], *places))


def judge_units(wanted, answers):
    """Of timers on which a setting depends."""
    blocks = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in said(answers, "units").split("\n\n")]
    states = {block.get("Id"): block for block in blocks}
    for name in wanted:
        state = states.get(name, {})
        if state.get("ActiveState") != "active" or state.get("UnitFileState") in ("disabled", "masked"):
            yield trouble(name, f"is {state.get('ActiveState', 'unknown')} and {state.get('UnitFileState') or 'not there'}", "systemctl enable --now starts it")


JUDGES = {
    "sshd": judge_sshd, "sysctl": judge_sysctl, "systemd": judge_systemd, "fail2ban": judge_fail2ban, "ufw": judge_ufw, "apt": judge_apt,
    "units": judge_units,
}  # fmt: skip


def look(wanted, quick=False, asking=ask):
    """Everything that is not in force."""
    asked = {owner: value for owner, value in wanted.items() if value and not (quick and owner in SLOW)}
    answers = asking(questions(asked))
    found = []
    for owner, value in asked.items():
        try:
            found += JUDGES[owner](value, answers)
        except Unknown as error:
            found.append(trouble(owner, str(error)))
    return found


def sentence(one):
    """A trouble for a person."""
    return f"{one['setting']} {one['says']}" + (f"; {one['origin']}" if one["origin"] else "")


def read(path=WANTED):
    """What is wanted on this host; nothing where role common has not been."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return {}


if __name__ == "__main__":
    print(json.dumps(look(read())))
