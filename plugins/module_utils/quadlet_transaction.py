"""One part of the service user brought to its wanted state, or back to what it was."""

from __future__ import annotations

import copy
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.senex.trader.plugins.module_utils import confined, data_directory, fileset, kept_data, kept_key, quadlet_check, unit_text, untrusted
from ansible_collections.senex.trader.plugins.module_utils.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.hold import Hold
from ansible_collections.senex.trader.plugins.module_utils.quadlet_plan import (
    BEGUN,
    QUADLET_DIRECTORY,
    UNIT_DIRECTORY,
    Part,
    answers,
    forgive,
    is_unit,
    make_plan,
    probed,
    secret_key,
)
from ansible_collections.senex.trader.plugins.module_utils.rotation import Rotation
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser, journal


class Refused(Exception):
    """The wanted state could not be reached. What ran before goes on running."""

    def __init__(self, message: str, plan: list[str]):
        super().__init__(message)
        self.plan = plan


SECRET_NAME = re.compile(r"PASS|SECRET|KEY|TOKEN|AUTH|CREDENTIAL|DSN|URL|BACKEND", re.IGNORECASE)


def secret_words(part: Part) -> set[str]:
    """What no message may hold: values of secrets, and in secret files the lines and what variables of a secret's name are set to."""
    words = set(part.secrets.values())
    for item in part.files:
        if item.secret:
            lines = untrusted.records(item.content.decode(errors="replace"))
            words.update(line for line in lines if "=" in line or ":" in line)
            pairs = [line.split("=", 1) for line in lines if "=" in line]
            words.update(value.strip("\"' ") for name, value in pairs if SECRET_NAME.search(name))
    return {word.strip() for word in words if len(word.strip()) >= 8}


def batches(units: list[dict]) -> list[list[dict]]:
    """Units in their order, those that may come up meanwhile with the one before them."""
    found: list[list[dict]] = []
    for unit in units:
        if found and unit.get("meanwhile"):
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


class Transaction:
    """Plan, validate, pull, install, restart in order; put back when a unit does not come up."""

    def __init__(self, part: Part, user: ServiceUser, present: bool, manifest: Manifest | None = None, beside=None, still=lambda: None):
        self.beside = beside  # what begins when the first unit with a rotation serves again
        self.still = still  # an error when the lock under which this is done was lost
        self.part = part if present else Part(part.name)
        self.user, self.present = user, present
        self.manifest = manifest or Manifest(part.name)
        self.before = copy.deepcopy(self.manifest)
        self.data = kept_data.of_part(self.part.directories)
        self.notes = os.path.dirname(self.manifest.path)
        self.redact = sorted(secret_words(part), key=len, reverse=True)
        self.stand_ins = [unit["stand_in"] for unit in self.part.units if unit.get("stand_in")]
        self.cut: list[dict] = []  # connections that did not end in time
        self.at, self.began = "", time.time()  # the unit that is being started, and since when
        self.saving = threading.Lock()

    def run(self, check: bool) -> dict:
        """Apply the part. In check mode: only tell."""
        if not self.present and not self.manifest.found:
            return {"changed": False, "plan": [], "diff": []}
        self.user.check_manager()
        self._guard()
        self.plan = make_plan(self.part, self.manifest, self.user)
        answer = {
            "changed": not self.plan.empty,
            "plan": self.plan.sentences(),
            "diff": [change.diff() for change in self.plan.changes],
        }
        out = self._left_out()
        if out:
            answer.update(changed=True, plan=[*answer["plan"], *(f"put {name} back into rotation" for name in out)])
        if not self.plan.empty and self.plan.reload:
            self._validate()
        if check:
            return answer
        for rotation in out.values():
            rotation.back()
        kept_data.let_begin(self.data, self.user)
        if not self.plan.empty:
            self._apply()
        self._remember(final=True)
        kept_data.remember(self.part.name, self.data, self.user, self.notes)
        return {**answer, "cut": self.cut} if self.cut else answer

    def whole(self) -> bool:
        """Whether the part is as wanted, with nothing to be done."""
        self.user.check_manager()
        self._guard()
        self.plan = make_plan(self.part, self.manifest, self.user)
        unnoted = kept_data.news(self.part.name, self.data, self.notes)  # by the call for the part
        return self.manifest.found and self.plan.empty and not self._left_out() and not unnoted

    def _left_out(self) -> dict[str, Rotation]:
        """Units that need nothing, and that a killed run left out of rotation."""
        acting = [unit["name"] for unit in self.plan.act]
        rotations = {unit["name"]: Rotation(unit["rotation"]) for unit in self.part.units if unit.get("rotation") and unit["name"] not in acting}
        return {name: rotation for name, rotation in rotations.items() if rotation.out()}

    def _refuse(self, message: str) -> None:
        for value in self.redact:
            message = message.replace(value, "********")
        raise Refused(f"{self.part.name}: {message}", self.plan.sentences())

    def _guard(self) -> None:
        """Data on the host that the wanted state would not fit (a database of another major version) stops everything."""
        # First: an empty mount point is nothing to be removed
        if reason := kept_data.trouble(self.part.name, self.data, self.notes):
            raise Refused(f"{self.part.name}: {reason}", [])
        guards = [guard for guard in self.part.guards if "keeps" not in guard]
        for guard in (guard for guard in self.part.guards if "keeps" in guard):
            self._keeps(guard)
        there = untrusted.read([guard["file"] for guard in guards])
        if reason := data_directory.trouble(*(path for path, answer in there.items() if "content" not in answer)):
            raise Refused(f"{self.part.name}: {reason}", [])
        for path, answer in there.items():
            if trouble := untrusted.problem(answer):
                raise trouble
            content = answer.get("content")
            for guard in guards if content is not None else []:
                found = content.decode(errors="replace").strip()
                if guard["file"] == path and found != str(guard["content"]):
                    # Whoever owns the directory may have put anything there: what is no version goes into no message
                    shown = found if re.fullmatch(r"\d[\w.]{0,19}", found, re.ASCII) else "(something else than a version)"
                    raise Refused(f"{self.part.name}: {guard['message'].replace('FOUND', shown)}", [])

    def _keeps(self, guard: dict) -> None:
        """The first of the values that a variable is to have is one of those that it has here: what writes from now on can be read by who reads now."""
        path, name = guard["file"], guard["keeps"]
        wanted = next((item.content for item in self.part.files if item.path == path), b"")
        if kept_key.is_another(path, name, kept_key.values_of(wanted, name)):
            raise Refused(f"{self.part.name}: {guard['message']}", [])

    def _validate(self) -> None:
        """The whole set of units that would lie on the host goes through the host's own checkers."""
        units = {}
        going = {change.path for change in self.plan.changes if change.after is None}
        patterns = [os.path.join(self.user.home, directory, "*") for directory in (QUADLET_DIRECTORY, UNIT_DIRECTORY)]
        for path, answer in untrusted.matching(patterns, follow=True).items():
            name = os.path.basename(path)
            if path in patterns and (trouble := untrusted.problem(answer)):
                raise trouble
            if name.endswith(unit_text.QUADLET_SUFFIXES + unit_text.SYSTEMD_SUFFIXES) and path not in going and "content" in answer:
                units[name] = answer["content"].decode(errors="replace")
        units.update(self.part.unit_texts())
        found = quadlet_check.problems(self.user, units, self.user.podman_version())
        if found:
            self._refuse("a unit was refused by this host's own checks, nothing was changed:\n  " + "\n  ".join(found))

    def _filtered(self) -> None:
        """Podman would say it of each container when the old one is gone; a release that comes before site.yml does not know of the file.

        Programs that start containers themselves would meet it in a backup or a restore. They have confined.py beside them.
        """
        named = {path for text in self.part.unit_texts().values() for path in unit_text.seccomp_profiles(text)}
        if any(os.path.basename(item.path) == "confined.py" for item in self.part.files):
            named.add(confined.SECCOMP)
        missing = [path for path in sorted(named) if untrusted.kind(path, follow=False) != "file"]
        if missing:
            self._refuse(f"{', '.join(missing)} is not there, nothing was changed: role podman brings it (site.yml --tags podman)")

    def _apply(self) -> None:
        plan, user = self.plan, self.user
        self._filtered()
        for reference in plan.pull:
            result = user.podman("pull", "--quiet", reference, check=False, timeout=1800)
            if result.returncode:
                self._refuse(user.cannot_pull(self.part.image_input, reference, result.stderr))
        if plan.pull:  # the images' ids are part of the fingerprints
            self.plan = plan = make_plan(self.part, self.manifest, user)
        self._remember(final=False)
        done: list[dict] = []
        try:
            for item in plan.directories:
                user.make_directory(item["path"], int(item.get("mode", "0755"), 8), item.get("container_user"), item.get("container_group"))
            leaving = {name: rotation for name in plan.stop if (rotation := self._leaving(name))}
            for name in plan.stop:
                if name not in self.stand_ins and name not in leaving:
                    user.systemctl("stop", name)
            self._goes_on()
            self._write(plan.changes, plan.secrets)
            for batch in batches(plan.act):
                self._goes_on()
                for unit in batch:
                    self._stand_in(unit)
                    done.append(unit)
                self._renew(batch)
                if self.beside and any(unit.get("rotation") for unit in batch):
                    self.beside.begin()
            for name, rotation in leaving.items():  # last, when those that stay are all in service
                self._goes_on()
                self.at, self.began = name, time.time()
                turn = self._out_of_rotation({"name": name, "rotation": rotation})
                if turn.alone and turn.others():
                    raise OSError(f"{', '.join(turn.others())} answer nothing, so it is needed")
                user.systemctl("stop", name)
                user.systemctl("reset-failed", name, check=False)
        except (CommandError, OSError) as error:
            self._put_back(done, error)
        self._relieve([name for name in plan.stop if name in self.stand_ins])

    def _goes_on(self) -> None:
        self.at = ""  # no unit is at fault
        self.still()

    def _write(self, changes: list, secrets: dict) -> None:
        self._enable([change for change in changes if change.after is None], lambda change: change.after)
        self.user.writes(fileset.install, changes)
        for name, value in secrets.items():
            self.user.set_secret(name, value)
        if self.plan.unmask:
            self.user.systemctl("unmask", *self.plan.unmask)
            self.user.systemctl("unmask", "--runtime", *self.plan.unmask)
        if self.plan.reload or self.plan.unmask:
            self.user.systemctl("daemon-reload")
        for name in self.plan.enable:
            self.user.systemctl("reenable", name)
        written = self.part.files if self.plan.resumed else [item for item in self.part.files if item.path in {change.path for change in changes}]
        self._enable(written, lambda item: item.content)
        for unit in self.plan.stop:  # a failed unit would be remembered after its file is gone
            self.user.systemctl("reset-failed", unit, check=False)

    def _enable(self, items: list, content) -> None:
        """Plain units with an [Install] section start at boot; Quadlet's own are linked by the generator."""
        for item in items:
            if not is_unit(item.path) or not os.path.dirname(item.path).endswith(UNIT_DIRECTORY):
                continue
            text = content(item)
            if text is None:
                self.user.systemctl("disable", os.path.basename(item.path), check=False)
            elif b"[Install]" in text:
                self.user.systemctl("reenable", os.path.basename(item.path))

    def _stand_in(self, unit: dict) -> None:
        """Another unit does the work while this one restarts. It is up before anything stops."""
        name = unit.get("stand_in")
        if name and unit["verb"] == "restart" and unit["name"] in self.plan.running:
            self.at, self.began = name, time.time()
            self.user.systemctl("restart", name)  # rather than start: one that a killed run left may be of another release

    def _relieve(self, names: list) -> None:
        """Stand-ins finish what they run, and leave nothing behind that looks like a failure."""
        for name in filter(None, names):
            self.user.systemctl("stop", name, check=False)
            self.user.systemctl("reset-failed", name, check=False)

    def _renew(self, batch: list[dict]) -> None:
        """Bring up what may come up at the same time; what fails is known by its name when all of it has ended."""
        began = time.time()
        with ThreadPoolExecutor(max_workers=len(batch)) as pool:
            coming = [(unit, pool.submit(self._bring_up, unit)) for unit in batch]
        for unit, start in coming:
            if error := start.exception():
                self.at, self.began = unit["name"], began
                raise error

    def _bring_up(self, unit: dict) -> None:
        name, fingerprint = unit["name"], self.plan.fingerprints[unit["name"]]
        self._started(name, BEGUN + fingerprint)  # killed from here on, nobody knows with what the unit runs
        self.user.systemctl("reset-failed", name, check=False)
        self._turn(unit, "restart" if unit["verb"] == "restart" else "start")
        self._started(name, fingerprint)
        if unit.get("stand_in"):  # it may take minutes to finish its task, and nobody need wait for that
            self.user.systemctl("stop", "--no-block", unit["stand_in"], check=False)

    def _started(self, name: str, fingerprint: str) -> None:
        with self.saving:
            self.manifest.started[name] = fingerprint
            self.manifest.save()

    def _turn(self, unit: dict, verb: str, started: bool = True) -> None:
        """Start or restart a unit, out of rotation from before it stops until it answers; what the application asks, while requests wait."""
        rotation = self._out_of_rotation(unit)
        running = verb == "restart" and unit["name"] in self.plan.running
        with Hold(unit.get("hold") if running else None, self.user.run):
            self.user.systemctl(verb, unit["name"])
        silent = answers(unit, patience=30, started=started)
        if silent:
            raise OSError(silent)
        rotation.back()
        if rotation.alone:
            forgive(unit)
        complaint = probed(unit) if started else ""
        if complaint:
            raise OSError(complaint)

    def _out_of_rotation(self, unit: dict) -> Rotation:
        rotation = Rotation(unit.get("rotation"))
        rotation.leave(lambda: self._tell(unit["rotation"].get("notice")))
        if rotation.cut:
            self.cut.append({"unit": unit["name"], "connections": rotation.cut})
        return rotation

    def _leaving(self, name: str) -> dict | None:
        """The rotation of a unit that the part has no more: as its fellows', at the address that its old file publishes."""
        fellow = next((unit for unit in self.part.units if unit.get("rotation")), None)
        old = [change.before for change in self.plan.changes if change.after is None and unit_text.service_of(os.path.basename(change.path)) == name]
        if not fellow or not old:
            return None
        server = next(iter(unit_text.values(old[0].decode(errors="replace"), "Container", "PublishPort")), "").rpartition(":")[0]
        stems = {fellow["name"].removesuffix(".service"): name.removesuffix(".service")}
        notice = [stems.get(word, word) for word in fellow["rotation"].get("notice") or []]
        return {**fellow["rotation"], "server": server, "notice": notice} if server else None

    def _tell(self, notice: list | None) -> None:
        """Run the notice beside the wait for what it should bring about; the unit stops whatever becomes of it."""
        if notice:
            threading.Thread(target=self.user.run, args=(notice,), kwargs={"check": False, "timeout": 10}, daemon=True).start()

    def _put_back(self, done: list[dict], error: Exception) -> None:
        """The old files and secrets return, and what was touched runs as before; one trouble on the way does not end it."""
        failed = self.at
        reason = f"{failed} did not come up" if failed else "the new state could not be installed"
        logs = f"\nLast lines of {failed}:\n{journal(failed, self.user.uid, self.began)}" if failed else ""
        troubles: list[str] = []

        def attempt(action, *arguments) -> None:
            try:
                action(*arguments)
            except (CommandError, OSError) as trouble:
                troubles.append(str(trouble))

        if self.beside and (trouble := self.beside.wait()):  # it reads some of the files that go back now
            reason += f" (and {trouble})"
        if failed:
            self.user.systemctl("stop", failed, check=False)
        # Killed from here on, nobody knows what each of them runs with
        touched_names = {failed, *(unit["name"] for unit in done)}
        self.manifest.started = {name: value for name, value in self.manifest.started.items() if name not in touched_names}
        attempt(self.manifest.settle)
        attempt(self._enable, [change for change in self.plan.changes if change.before is None], lambda change: change.before)
        attempt(self.user.writes, fileset.put_back, self.plan.changes)
        for name in self.plan.secrets:
            attempt(self.user.set_secret, name, self.plan.old_secrets.get(name))
        self.user.systemctl("daemon-reload", check=False)
        attempt(self._enable, [change for change in self.plan.changes if change.before is not None], lambda change: change.before)
        back, dead = [], []
        touched = [unit for unit in done if unit.get("run_once_key") is None]
        if touched and touched[-1].get("rotation"):  # the one out of rotation first, so that the others can leave it in turn
            touched = [touched[-1], *touched[:-1]]
        for unit in [*({"name": name} for name in self.plan.stop if name not in self.stand_ins), *touched]:
            name = unit["name"]
            self.user.systemctl("reset-failed", name, check=False)
            if name not in self.before.units and name not in self.plan.running:
                self.user.systemctl("stop", name, check=False)
                continue
            try:
                self._turn(unit, "restart", started=False)
                back.append(name)
            except CommandError:
                dead.append(name)
            except OSError as silent:
                troubles.append(str(silent))
        for unit in done:
            attempt(lambda unit=unit: Rotation(unit.get("rotation")).back())
        self._relieve(self.stand_ins)
        if troubles:  # the next run has to know of everything that may lie here
            self.manifest.started = self.before.started
        attempt(self.manifest.settle if troubles else self.before.settle if self.before.found else self.before.delete)
        said = "The files from before are back" + (f", running again: {', '.join(back)}" if back else "")
        if troubles:
            said = f"Not all is back as it was ({'; '.join(troubles)})" + (f"; running again: {', '.join(back)}" if back else "")
        if dead:
            said += f"; NOT running: {', '.join(dead)}"
        self._refuse(f"{reason}: {error}\n{said}.{logs}")

    def _remember(self, final: bool) -> None:
        """Before the change the manifest holds old and new, so that a killed run leaves nothing unknown."""
        paths = [item.path for item in self.part.files]
        # A stand-in is remembered and not wanted: one that runs after a killed run is stopped by the next
        names = [*(unit["name"] for unit in self.part.units), *self.stand_ins]
        if final and not self.present:
            self.manifest.delete()
            return
        keep = [] if final else self.manifest.files
        self.manifest.files = sorted({*paths, *keep})
        self.manifest.secrets = sorted({*self.part.secrets, *([] if final else self.manifest.secrets)})
        self.manifest.units = list(dict.fromkeys([*names, *([] if final else self.manifest.units)]))
        self.manifest.unfinished = not final
        self.manifest.repairs = self.plan.repairs
        if final:
            mine = {*paths, *(secret_key(name) for name in self.part.secrets)}
            self.manifest.repairs = {name: count for name, count in self.plan.repairs.items() if name in mine}
            self.manifest.written = {item.path: fileset.as_written(item.content, (item.mode, item.uid, item.gid)) for item in self.part.files}
            self.manifest.written.update({secret_key(name): fileset.digest(value) for name, value in self.part.secrets.items()})
            self.manifest.started = {name: value for name, value in self.manifest.started.items() if name in names}
        self.manifest.save()
