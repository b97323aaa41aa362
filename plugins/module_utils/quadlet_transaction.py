"""One component of the service user brought to its wanted state, or back to what it was."""

from __future__ import annotations

import copy
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.senex.trader.plugins.module_utils import confined, data_directory, field_key, fileset, kept_data, quadlet_check, unit_text, untrusted
from ansible_collections.senex.trader.plugins.module_utils.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.nginx_upstream import UpstreamServers
from ansible_collections.senex.trader.plugins.module_utils.quadlet_plan import (
    QUADLET_DIRECTORY,
    START_UNCONFIRMED,
    UNIT_DIRECTORY,
    Component,
    answers,
    exclude_expected_downtime,
    is_unit,
    make_plan,
    secret_key,
    traffic_gate_error,
)
from ansible_collections.senex.trader.plugins.module_utils.request_hold import RequestHold
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser, journal


class ApplyError(Exception):
    """The wanted state could not be reached. What ran before goes on running."""

    def __init__(self, message: str, plan: list[str]):
        super().__init__(message)
        self.plan = plan


SECRET_NAME = re.compile(r"PASS|SECRET|KEY|TOKEN|AUTH|CREDENTIAL|DSN|URL|BACKEND", re.IGNORECASE)


def secret_words(component: Component) -> set[str]:
    """What no message may hold: values of secrets, and in secret files the lines and what variables of a secret's name are set to."""
    words = set(component.secrets.values())
    for item in component.files:
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
        if found and unit.get("parallel_with_previous"):
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


class Transaction:
    """Plan, validate, pull, install, restart in order; put back when a unit does not come up."""

    def __init__(self, component: Component, user: ServiceUser, present: bool, manifest: Manifest | None = None, concurrent=None, still=lambda: None):
        self.concurrent = concurrent  # components that start when the first unit with a load balancer is ready again
        self.still = still  # an error when the lock under which this is done was lost
        self.component = component if present else Component(component.name)
        self.user, self.present = user, present
        self.manifest = manifest or Manifest(component.name)
        self.before = copy.deepcopy(self.manifest)
        self.data = kept_data.of_component(self.component.directories)
        self.notes = os.path.dirname(self.manifest.path)
        self.redact = sorted(secret_words(component), key=len, reverse=True)
        self.surge_units = [unit["surge_unit"] for unit in self.component.units if unit.get("surge_unit")]
        self.cut: list[dict] = []  # connections that did not end in time
        self.at, self.began = "", time.time()  # the unit that is being started, and since when
        self.saving = threading.Lock()

    def run(self, check: bool) -> dict:
        """Apply the part. In check mode: only tell."""
        if not self.present and not self.manifest.found:
            return {"changed": False, "plan": [], "diff": []}
        self.user.check_manager()
        self._check_preconditions()
        self.plan = make_plan(self.component, self.manifest, self.user)
        answer = {
            "changed": not self.plan.empty,
            "plan": self.plan.sentences(),
            "diff": [change.diff() for change in self.plan.changes],
        }
        out = self._still_drained()
        if out:
            answer.update(changed=True, plan=[*answer["plan"], *(f"put {name} back in service" for name in out)])
        if not self.plan.empty and self.plan.reload:
            self._validate()
        if check:
            return answer
        for upstream in out.values():
            upstream.restore()
        kept_data.let_begin(self.data, self.user)
        if not self.plan.empty:
            self._apply()
        self._save_manifest(final=True)
        kept_data.remember(self.component.name, self.data, self.user, self.notes)
        return {**answer, "cut": self.cut} if self.cut else answer

    def whole(self) -> bool:
        """Whether the component is as wanted, with nothing to be done."""
        self.user.check_manager()
        self._check_preconditions()
        self.plan = make_plan(self.component, self.manifest, self.user)
        unnoted = kept_data.news(self.component.name, self.data, self.notes)  # by the call for the component
        return self.manifest.found and self.plan.empty and not self._still_drained() and not unnoted

    def _still_drained(self) -> dict[str, UpstreamServers]:
        """Units that need nothing, and that a killed run left drained."""
        acting = [unit["name"] for unit in self.plan.act]
        upstreams = {
            unit["name"]: UpstreamServers(unit["load_balancer"]) for unit in self.component.units if unit.get("load_balancer") and unit["name"] not in acting
        }
        return {name: upstream for name, upstream in upstreams.items() if upstream.drained()}

    def _fail(self, message: str) -> None:
        for value in self.redact:
            message = message.replace(value, "********")
        raise ApplyError(f"{self.component.name}: {message}", self.plan.sentences())

    def _check_preconditions(self) -> None:
        """Data on the host that the wanted state would not fit (a database of another major version) stops everything."""
        # First: an empty mount point is nothing to be removed
        if reason := kept_data.trouble(self.component.name, self.data, self.notes):
            raise ApplyError(f"{self.component.name}: {reason}", [])
        preconditions = [precondition for precondition in self.component.preconditions if "keeps" not in precondition]
        for precondition in (precondition for precondition in self.component.preconditions if "keeps" in precondition):
            self._check_kept_value(precondition)
        there = untrusted.read([precondition["file"] for precondition in preconditions])
        if reason := data_directory.trouble(*(path for path, answer in there.items() if "content" not in answer)):
            raise ApplyError(f"{self.component.name}: {reason}", [])
        for path, answer in there.items():
            if trouble := untrusted.problem(answer):
                raise trouble
            content = answer.get("content")
            for precondition in preconditions if content is not None else []:
                found = content.decode(errors="replace").strip()
                if precondition["file"] == path and found != str(precondition["content"]):
                    # Whoever owns the directory may have put anything there: what is no version goes into no message
                    shown = found if re.fullmatch(r"\d[\w.]{0,19}", found, re.ASCII) else "(something else than a version)"
                    raise ApplyError(f"{self.component.name}: {precondition['message'].replace('FOUND', shown)}", [])

    def _check_kept_value(self, precondition: dict) -> None:
        """The first of the values that a variable is to have is one of those that it has here: what writes from now on can be read by who reads now."""
        path, name = precondition["file"], precondition["keeps"]
        wanted = next((item.content for item in self.component.files if item.path == path), b"")
        if field_key.is_another(path, name, field_key.values_of(wanted, name)):
            raise ApplyError(f"{self.component.name}: {precondition['message']}", [])

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
        units.update(self.component.unit_texts())
        found = quadlet_check.problems(self.user, units, self.user.podman_version())
        if found:
            self._fail("a unit was refused by this host's own checks, nothing was changed:\n  " + "\n  ".join(found))

    def _check_seccomp(self) -> None:
        """Podman would say it of each container when the old one is gone; a release that comes before site.yml does not know of the file.

        Programs that start containers themselves would meet it in a backup or a restore. They have confined.py beside them.
        """
        named = {path for text in self.component.unit_texts().values() for path in unit_text.seccomp_profiles(text)}
        if any(os.path.basename(item.path) == "confined.py" for item in self.component.files):
            named.add(confined.SECCOMP)
        missing = [path for path in sorted(named) if untrusted.kind(path, follow=False) != "file"]
        if missing:
            self._fail(f"{', '.join(missing)} is not there, nothing was changed: role podman brings it (site.yml --tags podman)")

    def _apply(self) -> None:
        plan, user = self.plan, self.user
        self._check_seccomp()
        for reference in plan.pull:
            result = user.podman("pull", "--quiet", reference, check=False, timeout=1800)
            if result.returncode:
                self._fail(user.cannot_pull(self.component.image_input, reference, result.stderr))
        if plan.pull:  # the images' ids are part of the fingerprints
            self.plan = plan = make_plan(self.component, self.manifest, user)
        self._save_manifest(final=False)
        done: list[dict] = []
        try:
            for item in plan.directories:
                user.make_directory(item["path"], int(item.get("mode", "0755"), 8), item.get("container_user"), item.get("container_group"))
            leaving = {name: upstream for name in plan.stop if (upstream := self._load_balancer_of_removed(name))}
            for name in plan.stop:
                if name not in self.surge_units and name not in leaving:
                    user.systemctl("stop", name)
            self._check_lock()
            self._write(plan.changes, plan.secrets)
            for batch in batches(plan.act):
                self._check_lock()
                for unit in batch:
                    self._start_surge_unit(unit)
                    done.append(unit)
                self._start_batch(batch)
                if self.concurrent and any(unit.get("load_balancer") for unit in batch):
                    self.concurrent.begin()
            for name, upstream in leaving.items():  # last, when those that stay are all in service
                self._check_lock()
                self.at, self.began = name, time.time()
                turn = self._drain({"name": name, "load_balancer": upstream})
                if turn.last_in_service and turn.others():
                    raise OSError(f"{', '.join(turn.others())} answer nothing, so it is needed")
                user.systemctl("stop", name)
                user.systemctl("reset-failed", name, check=False)
        except (CommandError, OSError) as error:
            self._roll_back(done, error)
        self._stop_surge_units([name for name in plan.stop if name in self.surge_units])

    def _check_lock(self) -> None:
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
        written = self.component.files if self.plan.resumed else [item for item in self.component.files if item.path in {change.path for change in changes}]
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

    def _start_surge_unit(self, unit: dict) -> None:
        """Another unit does the work while this one restarts. It is up before anything stops."""
        name = unit.get("surge_unit")
        if name and unit["verb"] == "restart" and unit["name"] in self.plan.running:
            self.at, self.began = name, time.time()
            self.user.systemctl("restart", name)  # rather than start: one that a killed run left may be of another release

    def _stop_surge_units(self, names: list) -> None:
        """Stop surge units gracefully; none stays in the state failed."""
        for name in filter(None, names):
            self.user.systemctl("stop", name, check=False)
            self.user.systemctl("reset-failed", name, check=False)

    def _start_batch(self, batch: list[dict]) -> None:
        """Start or restart units at the same time; raises the error of the first that failed when all have ended."""
        began = time.time()
        with ThreadPoolExecutor(max_workers=len(batch)) as pool:
            coming = [(unit, pool.submit(self._start_unit, unit)) for unit in batch]
        for unit, start in coming:
            if error := start.exception():
                self.at, self.began = unit["name"], began
                raise error

    def _start_unit(self, unit: dict) -> None:
        name, fingerprint = unit["name"], self.plan.fingerprints[unit["name"]]
        self._started(name, START_UNCONFIRMED + fingerprint)  # killed from here on, nobody knows with what the unit runs
        self.user.systemctl("reset-failed", name, check=False)
        self._restart_drained(unit, "restart" if unit["verb"] == "restart" else "start")
        self._started(name, fingerprint)
        if unit.get("surge_unit"):  # it may take minutes to finish its task, and nobody need wait for that
            self.user.systemctl("stop", "--no-block", unit["surge_unit"], check=False)

    def _started(self, name: str, fingerprint: str) -> None:
        with self.saving:
            self.manifest.started[name] = fingerprint
            self.manifest.save()

    def _restart_drained(self, unit: dict, verb: str, started: bool = True) -> None:
        """Start or restart a unit, drained from before it stops until it is ready; what the application uses, while requests are held."""
        upstream = self._drain(unit)
        running = verb == "restart" and unit["name"] in self.plan.running
        with RequestHold(unit.get("request_hold") if running else None, self.user.run):
            self.user.systemctl(verb, unit["name"])
        silent = answers(unit, patience=30, started=started)
        if silent:
            raise OSError(silent)
        upstream.restore()
        if upstream.last_in_service:
            exclude_expected_downtime(unit)
        complaint = traffic_gate_error(unit) if started else ""
        if complaint:
            raise OSError(complaint)

    def _drain(self, unit: dict) -> UpstreamServers:
        upstream = UpstreamServers(unit.get("load_balancer"))
        upstream.drain(lambda: self._run_pre_stop_hook(unit["load_balancer"].get("pre_stop_hook")))
        if upstream.cut:
            self.cut.append({"unit": unit["name"], "connections": upstream.cut})
        return upstream

    def _load_balancer_of_removed(self, name: str) -> dict | None:
        """The load balancer entry of a unit that the component no longer has: as its fellows', at the address that its old file publishes."""
        fellow = next((unit for unit in self.component.units if unit.get("load_balancer")), None)
        old = [change.before for change in self.plan.changes if change.after is None and unit_text.service_of(os.path.basename(change.path)) == name]
        if not fellow or not old:
            return None
        server = next(iter(unit_text.values(old[0].decode(errors="replace"), "Container", "PublishPort")), "").rpartition(":")[0]
        stems = {fellow["name"].removesuffix(".service"): name.removesuffix(".service")}
        command = [stems.get(word, word) for word in fellow["load_balancer"].get("pre_stop_hook") or []]
        return {**fellow["load_balancer"], "server": server, "pre_stop_hook": command} if server else None

    def _run_pre_stop_hook(self, command: list | None) -> None:
        """Run the command in the background, while connections are waited for; the unit is stopped whatever becomes of it."""
        if command:
            threading.Thread(target=self.user.run, args=(command,), kwargs={"check": False, "timeout": 10}, daemon=True).start()

    def _roll_back(self, done: list[dict], error: Exception) -> None:
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

        if self.concurrent and (trouble := self.concurrent.wait()):  # it reads some of the files that go back now
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
        if touched and touched[-1].get("load_balancer"):  # the one that is drained first, so that the others can be drained in turn
            touched = [touched[-1], *touched[:-1]]
        for unit in [*({"name": name} for name in self.plan.stop if name not in self.surge_units), *touched]:
            name = unit["name"]
            self.user.systemctl("reset-failed", name, check=False)
            if name not in self.before.units and name not in self.plan.running:
                self.user.systemctl("stop", name, check=False)
                continue
            try:
                self._restart_drained(unit, "restart", started=False)
                back.append(name)
            except CommandError:
                dead.append(name)
            except OSError as silent:
                troubles.append(str(silent))
        for unit in done:
            attempt(lambda unit=unit: UpstreamServers(unit.get("load_balancer")).restore())
        self._stop_surge_units(self.surge_units)
        if troubles:  # the next run has to know of everything that may lie here
            self.manifest.started = self.before.started
        attempt(self.manifest.settle if troubles else self.before.settle if self.before.found else self.before.delete)
        said = "The files from before are back" + (f", running again: {', '.join(back)}" if back else "")
        if troubles:
            said = f"Not all is back as it was ({'; '.join(troubles)})" + (f"; running again: {', '.join(back)}" if back else "")
        if dead:
            said += f"; NOT running: {', '.join(dead)}"
        self._fail(f"{reason}: {error}\n{said}.{logs}")

    def _save_manifest(self, final: bool) -> None:
        """Before the change the manifest holds old and new, so that a killed run leaves nothing unknown."""
        paths = [item.path for item in self.component.files]
        # A surge unit is in the manifest and not wanted: one that runs after a killed run is stopped by the next
        names = [*(unit["name"] for unit in self.component.units), *self.surge_units]
        if final and not self.present:
            self.manifest.delete()
            return
        keep = [] if final else self.manifest.files
        self.manifest.files = sorted({*paths, *keep})
        self.manifest.secrets = sorted({*self.component.secrets, *([] if final else self.manifest.secrets)})
        self.manifest.units = list(dict.fromkeys([*names, *([] if final else self.manifest.units)]))
        self.manifest.unfinished = not final
        self.manifest.repairs = self.plan.repairs
        if final:
            mine = {*paths, *(secret_key(name) for name in self.component.secrets)}
            self.manifest.repairs = {name: count for name, count in self.plan.repairs.items() if name in mine}
            self.manifest.written = {item.path: fileset.as_written(item.content, (item.mode, item.uid, item.gid)) for item in self.component.files}
            self.manifest.written.update({secret_key(name): fileset.digest(value) for name, value in self.component.secrets.items()})
            self.manifest.started = {name: value for name, value in self.manifest.started.items() if name in names}
        self.manifest.save()
