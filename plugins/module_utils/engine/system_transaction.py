"""Files that root owns and the system units that read them, changed as one, put back when a check or a unit refuses them."""

from __future__ import annotations

import copy
import grp
import os
import pwd
import shutil
import ssl
import subprocess
import time
from dataclasses import dataclass, field

from ansible_collections.senex.trader.plugins.module_utils.host import bounded, fileset, host_layout, untrusted, user_manager
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest, WantedFile, digest

ASIDE = f"{host_layout.STATE}/aside"
UNIT_PATHS = ("/etc/systemd/system/", "/usr/local/lib/systemd/system/")


class ApplyError(Exception):
    """The wanted state could not be reached; the files from before are back."""

    def __init__(self, message: str, plan: list[str]):
        super().__init__(message)
        self.plan = plan


@dataclass
class SystemComponent:
    """One component as a role hands it over."""

    name: str
    files: list[WantedFile] = field(default_factory=list)
    directories: list[dict] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    checks: list[list[str]] = field(default_factory=list)
    handlers: dict[str, dict] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)


def ids(owner: str | int, group: str | int) -> tuple[int, int]:
    """Numeric owner and group; a name that is not there is a clear error."""
    try:
        uid = int(owner) if str(owner).isdigit() else pwd.getpwnam(owner).pw_uid
        gid = int(group) if str(group).isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise LookupError(f"there is no such owner or group on this host: {error}") from error
    return uid, gid


def wrong_directories(items: list[dict]) -> list[dict]:
    """Those that are not there with their mode; the owner is set when one is made and left alone afterwards."""
    there = fileset.directories([item["path"] for item in items])
    return [item for item in items if there[item["path"]].get("mode") != int(item.get("mode", "0755"), 8)]


def command(argv: list[str]) -> subprocess.CompletedProcess:
    """Run a command of the system."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=600)
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", "no end after 600 s")


def old_certificate(file: str, port: int, name: str) -> bool:
    """Whether what listens on this host hands out another certificate than the file has: it was written, and nobody has said so."""
    content = fileset.read(file)[0]
    if content is None:
        return False
    try:
        with bounded.connect("127.0.0.1", int(port), time.monotonic() + 5, bounded.unverified(), name) as stream:
            served = ssl.DER_cert_to_PEM_cert(stream.getpeercert(True) or b"")
    except OSError:  # what does not answer is not asked: `units` starts it, or its check says what is wrong
        return False
    return first_certificate(content.decode(errors="replace")) != first_certificate(served)


def first_certificate(text: str) -> str:
    """What is between the first two marks, however its lines are broken."""
    return "".join(text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split())


def make_directory(item: dict) -> None:
    """Create a directory with its owner, or set its mode: below a directory of that owner's as the owner, below another's not at all."""
    uid, gid = ids(item.get("owner", "root"), item.get("group", "root"))
    path, mode = item["path"].rstrip("/"), int(item.get("mode", "0755"), 8)
    above = untrusted.owner_above(path)
    if above is not None:
        if above != uid:
            raise OSError(f"{path} lies below a directory of the user {above}, where nothing is made for another: choose another place")
        untrusted.run(uid, gid, _make_directory, path, mode)
        return

    def own(directory: str, new: bool = True) -> None:
        trusted = not new and os.lstat(directory).st_uid == 0
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | (0 if trusted else os.O_NOFOLLOW))
        try:
            if new:
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    if not fileset.missing_directory(path):
        own(path, new=False)
    else:
        fileset.make_directory(path, own)


def _make_directory(path: str, mode: int) -> None:
    """As its owner, whose links lead nowhere that it may not go by itself."""
    if fileset.missing_directory(path):
        fileset.make_directory(path, lambda temporary: os.chmod(temporary, mode))
    else:
        os.chmod(path, mode)


class SystemTransaction:
    """Compare, install, check, tell the units; put back when something refuses."""

    def __init__(self, component: SystemComponent, present: bool):
        self.component, self.present = component, present
        self.manifest = Manifest(component.name)
        self.before = copy.deepcopy(self.manifest)

    def run(self, check: bool) -> dict:
        """Apply the part. In check mode: only tell."""
        self.others = self.manifest.others()
        others = {path for other in self.others for path in other.files}
        wanted = {item.path for item in self.component.files}
        gone = [path for path in self.manifest.files if path not in wanted and path not in others]
        fileset.own_ground([*wanted, *gone, *self.component.absent])
        blocks = {item.path for item in self.component.files if item.block_at}
        self.changes = fileset.compare(self.component.files, gone, [path for path in self.manifest.blocks if path not in blocks])
        self.directories = wrong_directories(self.component.directories)
        self.foreign = [path for path in self.component.absent if os.path.lexists(path)]
        self.prints = {name: self._handler_print(name) for name in self.component.handlers}
        undone = fileset.by_hand(self.changes, self.manifest)
        self.repairs = {**self.manifest.repairs, **{change.path: self.manifest.repairs.get(change.path, 0) + 1 for change in undone}}
        self.hand = {change.path for change in undone if change.path in self.manifest.written and not self.manifest.unfinished}
        # Whoever changed a file, or took our block out of theirs, may have told its program already
        read = {name for change in self.changes for name in change.notify}
        read |= {name for name, handler in self.component.handlers.items() if "serves" in handler and old_certificate(**handler["serves"])}
        self.due = [name for name, value in self.prints.items() if name in read or self.manifest.started.get(name) != value]
        if not self.present and self.changes:
            self.due = list(self.component.handlers)
        self.idle = self._idle_units() if self.present else {}
        plan = self.sentences()
        answer = {"changed": bool(plan), "plan": plan, "diff": [change.diff() for change in self.changes]}
        if check:
            return answer
        if plan:
            self._apply(plan)
        self._remember()
        return answer

    def sentences(self) -> list[str]:
        """The plan, a line each, for a person."""
        lines = ["finish what an earlier run began and did not end"] if self.before.unfinished else []
        lines += [f"make directory {item['path']} ({item.get('mode', '0755')})" for item in self.directories]
        hand = f" (changed by hand since {self.manifest.since()})" if self.hand else ""
        lines += [
            f"{'remove' if change.after is None else 'install'} {change.path}{hand if change.path in self.hand else ''}"
            for change in self.changes
            if not change.block
        ]
        lines += [f"{'write' if fileset.BEGIN in change.after else 'take out'} our lines in {change.path}" for change in self.changes if change.block]
        lines += [f"put aside {path}" for path in self.foreign]
        lines += [self._handler_text(name) for name in self.due]
        return lines + [f"enable and start {unit}{f' (it is {state})' if state else ''}" for unit, state in self.idle.items()]

    def _handler_text(self, name: str) -> str:
        handler = self.component.handlers[name]
        return " ".join(handler["command"]) if "command" in handler else f"{handler.get('action', 'restart')} {handler['unit']}"

    def _handler_print(self, name: str) -> str:
        read = [item for item in self.component.files if name in item.notify]
        # A file that another component has too may be put right by that one, before this one sees it
        mended = [f"{item.path} {other.repairs[item.path]}" for item in read for other in self.others if other.repairs.get(item.path)]
        return digest(*(piece for item in read for piece in (item.path, item.content)), *mended)

    def _idle_units(self) -> dict[str, str]:
        """Units that do not run, or that the next boot would not bring: disabled or masked, which is the value."""
        idle = {}
        for unit in self.component.units:
            shown = command(["systemctl", "show", "--property=ActiveState,UnitFileState,ConditionResult,ConditionTimestampMonotonic", unit]).stdout
            state = next(iter(user_manager.properties(shown)), {})
            enabled = state.get("UnitFileState") in ("enabled", "static", "alias", "generated")
            # A unit whose Condition… says no (time sync in a container) is as the system wants it; of one that nobody has started yet it says so too
            refused = state.get("ConditionResult") == "no" and state.get("ConditionTimestampMonotonic", "0") != "0"
            running = state.get("ActiveState") == "active" or (refused and enabled)
            if not (enabled and running):
                idle[unit] = "" if enabled else state.get("UnitFileState", "")
        return idle

    def _apply(self, plan: list[str]) -> None:
        self._keep_originals()
        self.manifest.files = sorted({*self.manifest.files, *(item.path for item in self.component.files if not item.block_at)})
        self.manifest.blocks = sorted({*self.manifest.blocks, *(item.path for item in self.component.files if item.block_at)})
        self.manifest.unfinished = True
        self.manifest.repairs = self.repairs
        # Killed from here on, nobody knows whom the new files have been told
        self.manifest.started = {name: value for name, value in self.manifest.started.items() if name not in self.due}
        self.manifest.save()
        try:
            for item in self.directories:
                make_directory(item)
            fileset.install(self.changes)
            # Before the checks, which read what is still there
            for path in self.foreign:
                self._put_aside(path)
            self._reload_systemd()
            for unit in (unit for unit, state in self.idle.items() if state.startswith("masked")):  # a masked one is not even reloaded
                command(["systemctl", "unmask", unit])
                command(["systemctl", "unmask", "--runtime", unit])
            trouble = self._check() or self._run_handlers(self.due) or self._start()
        except OSError as error:
            trouble = str(error)
        if trouble:
            raise ApplyError(f"{self.component.name}: {trouble}\n{self._roll_back()}.", plan)

    def _roll_back(self) -> str:
        """All as it was, as far as the disk lets it; what is not is said, and known to the next run, which finishes it."""
        troubles = []
        for action in (lambda: fileset.put_back(self.changes), self._bring_back):
            try:
                action()
            except OSError as error:
                troubles.append(str(error))
        self._reload_systemd()
        again = self._run_handlers([name for name in self.due if self.before.started.get(name)])
        said = "The files from before are back"
        if not troubles:
            try:
                if self.before.found:
                    self.before.save()
                else:
                    self.before.delete()
            except OSError as error:
                again += f"{'; ' if again else ''}{error}"
        else:
            said = f"Not all is back as it was ({'; '.join(troubles)}): run the playbook again when that is mended"
        return said + (f"; but {again}" if again else "")

    def _bring_back(self) -> None:
        for path in self.foreign:
            if os.path.lexists(ASIDE + path) and not os.path.lexists(path):
                shutil.move(ASIDE + path, path)

    def _keep_originals(self) -> None:
        """A file that was here before us is copied aside, once. What another component put there was not."""
        ours = {*self.manifest.files, *(path for other in self.others for path in other.files)}
        for change in self.changes:
            if change.before is not None and change.path not in ours:
                copy_path = ASIDE + change.path
                if not os.path.lexists(copy_path):
                    os.makedirs(os.path.dirname(copy_path), mode=0o700, exist_ok=True)
                    shutil.copy2(change.path, copy_path)

    def _put_aside(self, path: str) -> None:
        target = ASIDE + path
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        if os.path.lexists(target):
            os.unlink(target)
        shutil.move(path, target)

    def _reload_systemd(self) -> None:
        if self.before.unfinished or any(change.path.startswith(UNIT_PATHS) for change in self.changes):
            command(["systemctl", "daemon-reload"])

    def _check(self) -> str:
        for argv in self.component.checks:
            result = command(argv)
            if result.returncode:
                return f"'{' '.join(argv)}' refused the new files: {(result.stderr or result.stdout).strip()}"
        return ""

    def _run_handlers(self, names: list[str]) -> str:
        for name in names:
            handler = self.component.handlers[name]
            argv = handler.get("command") or self._unit_command(handler)
            if not argv:
                continue
            result = command(argv)
            if result.returncode:
                tail = "" if "command" in handler else command(["journalctl", "-u", handler["unit"], "-n", "20", "--no-pager"]).stdout
                return f"'{' '.join(argv)}' failed: {(result.stderr or result.stdout).strip()}\n{tail}".strip()
        return ""

    @staticmethod
    def _unit_command(handler: dict) -> list[str]:
        action = handler.get("action", "restart")
        if action == "none":
            return []
        # What does not run needs no reload or restart: `units` starts it
        verb = {"reload": "try-reload-or-restart", "restart": "try-restart", "start": "start"}[action]
        return ["systemctl", verb, handler["unit"]]

    def _start(self) -> str:
        for unit in self.idle:
            result = command(["systemctl", "enable", "--now", unit])
            if result.returncode:
                tail = command(["journalctl", "-u", unit, "-n", "20", "--no-pager"]).stdout
                return f"{unit} does not start: {result.stderr.strip()}\n{tail}"
        return ""

    def _remember(self) -> None:
        if not self.present:
            self.manifest.delete()
            return
        self.manifest.files = sorted(item.path for item in self.component.files if not item.block_at)
        self.manifest.blocks = sorted(item.path for item in self.component.files if item.block_at)
        self.manifest.started = self.prints
        owners = [(item, (item.mode, item.uid, item.gid)) for item in self.component.files if not item.block_at]
        self.manifest.written = {item.path: fileset.as_written(item.content, owner) for item, owner in owners}
        self.manifest.repairs = {path: count for path, count in self.repairs.items() if path in self.manifest.written}
        self.manifest.unfinished = False
        self.manifest.save()
