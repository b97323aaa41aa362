"""Journals of other hosts, on the one that keeps them all (role logs).

Which host a line is from says the directory that it is in: that follows from the sender's certificate, and a line may say anything of itself. They are read
as the account that has received them, for what is in the files came over the network.
"""

from __future__ import annotations

import collections
import datetime
import heapq
import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator

from senex_host import untrusted

CONFIGURATION = "/etc/senex-trader/logs.json"
ACCOUNT = "systemd-journal-remote"
FIELDS = ("MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_COMM", "_PID", "CONTAINER_NAME")
# By which a line belongs to a part, and whether only the service user's own count
NAMED = {"CONTAINER_NAME": True, "USER_UNIT": True, "_SYSTEMD_UNIT": False, "UNIT": False}
ALL = "all"
LONGEST = 20_000  # characters of a message


def span(options) -> list[str]:
    """From when to when, as journalctl has it."""
    return [f"--{word}={value}" for word in ("since", "until") if (value := getattr(options, word))]


class Journals:
    """The kept journals, of all hosts or of some."""

    def __init__(self, uid: int):
        try:
            with open(CONFIGURATION, encoding="utf-8") as handle:
                found = json.load(handle)
        except FileNotFoundError:
            raise LookupError("this host keeps no journals of others; ask on the one of the group logs") from None
        self.uid, self.directory, self.hosts = uid, found["directory"], list(found["hosts"].values())
        self.account = pwd.getpwnam(ACCOUNT)

    def chosen(self, names: list[str]) -> list[str]:
        wanted = self.hosts if ALL in names else list(dict.fromkeys(names))
        if unknown := [name for name in wanted if name not in self.hosts]:
            raise LookupError(f"there is no host {', '.join(unknown)} in the inventory; there are {', '.join(self.hosts)}")
        return wanted

    def begun(self, host: str, *words: str) -> subprocess.Popen:
        command = ["journalctl", f"--directory={self.directory}/{host}", "--quiet", "--no-pager", "--all", *words]
        them = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        # Its own words come with ours, not in between: such as that there is no file yet
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", cwd="/", **them)

    def asked(self, host: str, *words: str) -> list[str]:
        with self.begun(host, *words) as asked:
            return untrusted.records(asked.communicate()[0])

    def matches(self, host: str, parts: list[str]) -> list[str]:
        """What selects the lines of these parts: by its name, of all that are numbered (web: web-1, web-2), and of our own units (watchdog). Empty where
        that host has none of them."""
        found: list[list[str]] = []
        for field, theirs in NAMED.items():
            for value in self.asked(host, f"--field={field}"):
                name = value.removesuffix(".service")
                if {name, value, re.sub(r"-[0-9]+$", "", name), name.removeprefix("senex-")} & set(parts):
                    found.append([f"{field}={value}", *([f"_UID={self.uid}"] if theirs else [])])
        return [word for number, one in enumerate(found) for word in ([*(["+"] if number else []), *one])]

    def lines(self, host: str, words: list[str]) -> Iterator[tuple[int, str]]:
        """Time in microseconds, and the line as it is shown."""
        with self.begun(host, "--output=json", f"--output-fields={','.join(FIELDS)}", *words) as asked:
            for line in asked.stdout or ():
                entry = json.loads(line)
                moment = int(entry["__REALTIME_TIMESTAMP"])
                yield moment, shown(moment, host, entry)
            complaint = asked.stderr.read() if asked.stderr else ""
        if asked.returncode:
            raise LookupError(f"{host}: {untrusted.plain(complaint, 300) or f'journalctl ended with {asked.returncode}'}")


def text(value) -> str:
    """A field's value as journalctl writes it: words, a list of bytes, a list of several values, or null."""
    if isinstance(value, list):
        if all(isinstance(one, int) for one in value):
            return bytes(value).decode(errors="replace")
        return " ".join(text(one) for one in value)
    return "" if value is None else str(value)


def shown(moment: int, host: str, entry: dict) -> str:
    """As journalctl has it, with the host by the inventory's name. A message of several lines is indented, so that none of them passes for another line."""
    when = datetime.datetime.fromtimestamp(moment / 1e6).astimezone().isoformat(timespec="milliseconds")
    who = untrusted.plain(text(entry.get("CONTAINER_NAME") or entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM") or "unknown"), 60)
    number = untrusted.plain(text(entry.get("SYSLOG_PID") or entry.get("_PID") or ""), 10)
    said = untrusted.lines(text(entry.get("MESSAGE")), LONGEST).replace("\n", "\n    ")
    return f"{when} {host} {who}{f'[{number}]' if number else ''}: {said}"


def show(uid: int, options) -> int:
    """The last lines of the chosen hosts, in the order of time."""
    if options.follow:
        raise LookupError("--follow is for the journal of this host; on the other host: senex logs -f")
    journals = Journals(uid)
    streams, without = [], []
    for host in journals.chosen(options.host):
        matches = journals.matches(host, options.part) if options.part else []
        if options.part and not matches:
            without.append(host)
        else:
            streams.append(journals.lines(host, [f"--lines={options.lines}", *span(options), *matches]))
    last: collections.deque[tuple[int, str]] = collections.deque(heapq.merge(*streams, key=lambda one: one[0]), maxlen=max(options.lines, 0))
    for _, line in last:
        print(line)
    if without and not streams:
        raise LookupError(f"no line of {', '.join(options.part)} has come from {', '.join(without)}")
    if without:
        print(f"no line of {', '.join(options.part)} has come from {', '.join(without)}", file=sys.stderr)
    return 0
