"""What each job costs: seconds of the clock and of the processors, here and on its test hosts, by stage."""

import json
import os
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from common import ARTIFACTS, say
from prepare import lab_directory

# Where a machine shows the control groups of version 2; a host's group is named after its container
TREES = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
PAUSE = 2.0
STAGES = ("create", "prepare", "converge", "idempotence", "verify", "destroy")
SLOWEST = 25
TICK = os.sysconf("SC_CLK_TCK")
METERS: list["Meter"] = []
_lock = threading.Lock()
_hosts: dict[str, float] = {}  # container → seconds of the processors since it was made
_last: dict[str, float] = {}  # container → what its control group said last
_names: dict[str, str] = {}
_sampler = None


def _containers():
    """{identity: name} of the lab's containers, as Podman notes them."""
    try:
        listed = json.loads((lab_directory() / "containers/overlay-containers/containers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {entry["id"]: entry["names"][0] for entry in listed if entry.get("names")}


def _sample():
    tree = next((tree for tree in TREES if (tree / "libpod_parent").is_dir()), None)
    if not tree:
        return
    found = _containers()
    with _lock:
        _names.update(found)
        for identity in found:
            try:
                text = (tree / "libpod_parent" / f"libpod-{identity}" / "cpu.stat").read_text(encoding="utf-8")
            except OSError:
                continue
            # The group of a host that was stopped and started counts from nothing again
            now, before = int(text.split()[1]) / 1e6, _last.get(identity, 0.0)
            _hosts[identity] = _hosts.get(identity, 0.0) + (now - before if now >= before else now)
            _last[identity] = now


def _sample_on():
    while True:
        _sample()
        time.sleep(PAUSE)


def begin():
    """Look at the hosts every two seconds, for they are gone when their job ends."""
    global _sampler
    if not _sampler:
        _sampler = threading.Thread(target=_sample_on, daemon=True)
        _sampler.start()


def _of_hosts(prefixes):
    with _lock:
        return sum(used for identity, used in _hosts.items() if _names.get(identity, "").startswith(tuple(prefixes) or ("\0",)))


def _of_tree(root):
    """Seconds of the processors that a process and all below it used, those that ended included."""
    stats = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            stats[int(entry.name)] = (int(words[1]), sum(map(int, words[11:15])) / TICK)
    children = {}
    for pid, (parent, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    total, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        total += stats.get(pid, (0, 0.0))[1]
        waiting += children.get(pid, [])
    return total


class Meter:
    """The use of one job, split where its stages begin."""

    def __init__(self, label, pid, hosts):
        begin()
        self.label, self.pid, self.hosts = label, pid, hosts
        self.rows, self.current = [], None
        METERS.append(self)
        self.stage("all" if not label.startswith("molecule") else "start")

    def _now(self):
        return time.monotonic(), _of_tree(self.pid), _of_hosts(self.hosts)

    def stage(self, name):
        now = self._now()
        self._close(now)
        self.current = (name, now)

    def _close(self, now):
        if self.current:
            name, before = self.current
            wall, here, there = (round(max(0.0, b - a), 1) for a, b in zip(before, now, strict=True))
            self.rows.append({"stage": name, "wall": wall, "cpu_here": here, "cpu_hosts": there})

    def end(self):
        """Just before the process is waited for: afterwards its own use is not to be seen."""
        self._close(self._now())
        self.current = None

    def total(self, key):
        return sum(row[key] for row in self.rows)

    def wall(self, stage):
        return sum(row["wall"] for row in self.rows if row["stage"] == stage)


def _slow_tests():
    found = []
    for report in ARTIFACTS.glob("*.xml"):
        try:
            cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314  (our own file)
        except ElementTree.ParseError:
            continue
        found += [(float(case.get("time", 0)), report.stem, f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}") for case in cases]
    return sorted(found, reverse=True)[:SLOWEST]


def report():
    """Print the table of jobs and the slowest tests; all of it goes to artifacts/profile.json."""
    if not METERS:
        return
    slow = _slow_tests()
    data = {"jobs": [{"job": meter.label, "stages": meter.rows} for meter in METERS], "slowest_tests": slow, "date": time.strftime("%Y-%m-%d")}
    (ARTIFACTS / "profile.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    say("==== seconds by job: wall; processors here and on its hosts; wall by stage")
    say(f"{'job':28}{'wall':>7}{'here':>7}{'hosts':>7}  " + "".join(f"{stage:>12}" for stage in STAGES))
    for meter in sorted(METERS, key=lambda meter: -meter.total("wall")):
        stages = "".join(f"{meter.wall(stage):12.0f}" if meter.wall(stage) else " " * 12 for stage in STAGES)
        say(f"{meter.label:28}{meter.total('wall'):7.0f}{meter.total('cpu_here'):7.0f}{meter.total('cpu_hosts'):7.0f}  {stages}")
    say(f"{'all':28}{sum(m.total('wall') for m in METERS):7.0f}{sum(m.total('cpu_here') for m in METERS):7.0f}{sum(_hosts.values()):7.0f}")
    say("==== slowest tests")
    for wall, job, name in slow:
        say(f"{wall:7.1f} s  {job}: {name}")
