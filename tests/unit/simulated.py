"""Hosts that are directories: the collection's own playbooks, actions, modules, locks and records, over stand-ins for Podman, systemd and the prober.

A run meets what a test asks for (`trip`): at a point of a host something fails, the host is lost, the controller is killed, or another release takes over.
"""

import json
import shutil

import yaml
from controller import ROOT, Stubbed

IMAGE = "registry.example.com/senex-trader"
CONNECTION = '''"""A local connection to a host that is a directory, until it is lost."""
import os
import shlex
import signal

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: vanishing
short_description: for tests
description: for tests
options: {}
"""
PLACE = os.environ["STUB_PLACE"]


class Connection(Local):
    transport = "vanishing"

    def exec_command(self, cmd, *given, **named):
        host = self._play_context.remote_addr
        here = os.path.join(PLACE, host)
        self.lost(host)
        done = super().exec_command(f"STUB_AT={shlex.quote(here)} {cmd}", *given, **named)
        if os.path.exists(os.path.join(PLACE, "killed")):
            os.kill(os.getppid(), signal.SIGKILL)
            os._exit(1)
        self.lost(host)  # done perhaps, and its answer did not come
        return done

    def lost(self, host):
        if os.path.exists(os.path.join(PLACE, "lost-" + host)):
            raise AnsibleConnectionFailure("Failed to connect to the host: no route to host")
'''
TRIP = '''import json
import os


def at(point):
    """Meet what the test wants at this point of this host."""
    here = os.environ["STUB_AT"]
    place, host = os.path.split(here)
    with open(os.path.join(place, "log"), "a") as log:
        log.write(f"{host} {point}\\n")
    path = os.path.join(place, "trip")
    if not os.path.exists(path):
        return
    wanted = json.load(open(path))
    if [host, point] != wanted["at"]:
        return
    os.unlink(path)
    match wanted["do"]:
        case "fail":
            raise OSError("it failed here")
        case "lost":
            open(os.path.join(place, "lost-" + wanted["whom"]), "w").close()
        case "killed":
            open(os.path.join(place, "killed"), "w").close()
        case "taken over":
            from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger
            for other in wanted["hosts"]:
                ledger = Ledger(os.path.join(place, other))
                ledger.begin({"id": "other", "what": "deploy of 3", "who": "ben@desk"}, take_over="any")
                for part in ("django", "celery"):
                    file = os.path.join(place, other, part)
                    if os.path.exists(file):
                        open(file, "w").write(wanted["image"])
                ledger.finish("other", {"kind": "deploy", "result": "succeeded", "tag": "3"})
'''
RECORD = '\nBOOT = os.path.join(os.environ.get("STUB_AT", "/nowhere"), "boot")\n'
FILESET = '\nMANIFESTS = os.environ.get("STUB_AT", MANIFESTS)\n'
USER = '''

class ServiceUser:
    """Units that are words in a file."""

    uid = gid = 0

    def __init__(self, *_):
        self.file = os.path.join(os.environ["STUB_AT"], "running")

    def check_manager(self):
        pass

    def systemctl(self, verb, *words, check=True, timeout=0):
        from ansible_collections.senex.trader.plugins.module_utils import stub_trip
        running = open(self.file).read().split() if os.path.exists(self.file) else []
        units = [word for word in words if not word.startswith("-") and "*" not in word]
        if verb in ("start", "stop"):
            stub_trip.at(f"{verb} {' '.join(units)}")
            kept = [unit for unit in running if unit not in units] + (units if verb == "start" else [])
            open(self.file, "w").write(" ".join(unit for unit in kept if unit != "release.service"))
        there = open(os.path.join(os.environ["STUB_AT"], "units")).read().split()
        listed = running if verb == "list-units" else there
        return subprocess.CompletedProcess([], 0, "\\n".join(f"{unit} x" for unit in listed), "")
'''
TRANSACTION = '''
import os


class Transaction:
    """A component that is one file: the image that it runs."""

    def __init__(self, component, user, present, concurrent=None, still=lambda: None, unit_ready=None):
        self.component, self.concurrent, self.still = component, concurrent, still

    def run(self, check):
        from ansible_collections.senex.trader.plugins.module_utils import stub_trip
        image = self.component.files[0].content.decode().strip()
        file = os.path.join(os.environ["STUB_AT"], self.component.name)
        if not check:
            self.still()
            open(file, "w").write(image)
            stub_trip.at(f"{self.component.name} {image.rpartition(':')[2]}")
        return {"changed": True, "plan": [], "diff": []}
'''
STEPS = """
import os

from ansible_collections.senex.trader.plugins.module_utils import stub_trip


def pull(user, reference, kept=False):
    stub_trip.at("pull")
    found = {}
    for part, name in (("django", "web-1"), ("celery", "celery-worker")):
        path = os.path.join(os.environ["STUB_AT"], part)
        if os.path.exists(path):
            image = open(path).read()
            found[name] = {"image": "id of " + image, "reference": image}
    return {"changed": True, "image": "id of " + reference, "digest": "", "running": found}


def plan(user, container, script):
    stub_trip.at("plan")
    return {"pending": [], "due": {}, "reversible": {}}


"""
PRE_DEPLOY = """
from ansible_collections.senex.trader.plugins.module_utils import stub_trip


def dump(*_given):
    stub_trip.at("dump")
    return {"path": "/dump", "bytes": 1, "sha256": "", "seconds": 0}


def restore_point(user, database, role, name, container=""):
    return {"restore_point": name, "restore_point_at": ""}
"""
PROBER = """

def start(target):
    open(os.path.join(os.environ["STUB_AT"], "prober"), "w").close()


def stop():
    from ansible_collections.senex.trader.plugins.module_utils import stub_trip
    stub_trip.at("prober stops")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(os.environ["STUB_AT"], "prober"))


def seen():
    return {"requests": 10, "failed": 0, "forgiven": 0, "slowest": 0.1}
"""
PART = """- name: Put it in place
  senex.trader.quadlet:
    component: PART
    user: senex
    home: /h
    deploy_lock: "{{ __PART_deploy_lock | default({}) }}"
    render_only: "{{ __PART_render_only | default(false) }}"
    files: [{content: "{{ senex_image_reference }}", dest: image}]
  register: PART_applied
"""
STEP = """- name: POINT
  senex.trader.release:
    step: run
    id: "{{ backup_restore.id }}"
    what: POINT
    argv: [sh, -c, 'echo "$(basename $STUB_AT) POINT" >> $STUB_AT/../log; if test -e $STUB_AT/../fails-POINT; then echo it failed here >&2; exit 1; fi;
                    if test -e $STUB_AT/../loses-POINT; then touch $STUB_AT/../lost-$(basename $STUB_AT); fi']
"""
UPGRADE = """- name: Plan it
  ansible.builtin.set_fact:
    postgresql_upgrade_answer: {plan: {way: forward, from: 15, to: 17, resumed: false, interrupted: '', aside: [], lines: []}}
  when: postgresql_upgrade_step == 'plan'

- name: Do it
  senex.trader.release:
    step: run
    id: "{{ upgrade_id }}"
    what: "{{ postgresql_upgrade_step }}"
    argv: [sh, -c, 'echo "$(basename $STUB_AT) upgrade $0" >> $STUB_AT/../log', "{{ postgresql_upgrade_step }}"]
  when: postgresql_upgrade_step != 'plan'

- name: Keep what it said
  ansible.builtin.set_fact:
    postgresql_upgrade_answer: {kept: {data: '', major: 15, archive: ''}, aside: [], left: ''}
  when: postgresql_upgrade_step != 'plan'
"""
CHECKSUMS = """- name: Plan it
  ansible.builtin.set_fact:
    postgresql_checksums_answer: {plan: {goes: true, resumed: false, cluster: '7', bytes: 1048576, seconds: 45}}
  when: postgresql_checksums_step == 'plan'

- name: Do it
  senex.trader.release:
    step: run
    id: "{{ checksums_id }}"
    what: "{{ postgresql_checksums_step }}"
    argv: [sh, -c, 'echo "$(basename $STUB_AT) checksums $0" >> $STUB_AT/../log; ! test -e $STUB_AT/../fails-$0', "{{ postgresql_checksums_step }}"]
  when: postgresql_checksums_step != 'plan'
"""
PLAN = """- name: Plan it
  ansible.builtin.set_fact:
    backup_restore: {id: restore-1, afterwards: it is restored}
"""


class Hosts(Stubbed):
    """An environment of such hosts, all at version 1."""

    def __init__(self, home, groups, **variables):
        super().__init__(home, groups, {"vault_secret_key": "x"})
        self.groups, self.place = groups, home / "place"
        self.names = sorted({host for hosts in groups.values() for host in hosts})
        plugins, roles = self.tree / "plugins", self.tree / "roles"
        shutil.copy(ROOT / "plugins/action/release.py", plugins / "action/release.py")
        (plugins / "connection/vanishing.py").write_text(CONNECTION)
        (plugins / "module_utils/stub_trip.py").write_text(TRIP)
        added = {
            "release_record": RECORD, "fileset": FILESET, "service_user": USER, "quadlet_transaction": TRANSACTION, "release_steps": STEPS,
            "pre_deploy": PRE_DEPLOY, "traffic_probe_unit": PROBER,
        }  # fmt: skip
        for name, text in added.items():
            with open(next((plugins / "module_utils").rglob(f"{name}.py")), "a", encoding="utf-8") as handle:
                handle.write(text)
        asked = plugins / "module_utils/release/traffic_probe.py"
        asked.write_text(asked.read_text() + "\n\ndef ask(target, path):\n    return ''\n")
        shutil.copytree(ROOT / "roles/release", roles / "release")
        for part in ("django", "celery"):
            (roles / part / "tasks/main.yml").write_text(PART.replace("PART", part))
        (roles / "django/templates").mkdir()
        (roles / "django/templates/release.container.j2").write_text("[Container]\nImage={{ django_image }}\nExec=manage shell\n")
        for task in ("application_stop", "application_start"):
            shutil.copy(ROOT / f"roles/backup/tasks/{task}.yml", roles / f"backup/tasks/{task}.yml")
        shutil.copytree(ROOT / "roles/backup/meta", roles / "backup/meta")
        (roles / "backup/tasks/restore_plan.yml").write_text(PLAN)
        (roles / "backup/tasks/restore_queue.yml").write_text("- ansible.builtin.meta: noop\n")
        (roles / "postgresql/tasks/upgrade_step.yml").write_text(UPGRADE)
        (roles / "postgresql/tasks/checksums_step.yml").write_text(CHECKSUMS)
        (roles / "pitr/tasks/base.yml").write_text("- ansible.builtin.meta: noop\n")
        for stage in ("prepare", "switch"):
            (roles / f"backup/tasks/restore_{stage}.yml").write_text(STEP.replace("POINT", stage))
        for host in self.names:
            (self.place / host).mkdir(parents=True)
            mine = {name for name, hosts in groups.items() if host in hosts}
            units = [unit for name, unit in (("web", "web-1.service"), ("celery", "celery-worker.service")) if name in mine]
            for file in ("units", "running"):
                (self.place / host / file).write_text(" ".join(units))
            for part, names in (("django", {"web"}), ("celery", {"celery", "celery_beat"})):
                if mine & names:
                    (self.place / host / part).write_text(f"{IMAGE}:1")
        settled = yaml.safe_load((self.vault.parent / "main.yml").read_text())
        (self.vault.parent / "main.yml").write_text(yaml.safe_dump({**settled, "release_verify_from_controller": False, **variables}))

    def trip(self, host, point, do, whom=None):
        """`whom`: who is lost then, where it is another one."""
        wanted = {"at": [host, point], "do": do, "whom": whom or host, "hosts": self.names, "image": f"{IMAGE}:3"}
        (self.place / "trip").write_text(json.dumps(wanted))

    def play(self, playbook, *words, **environment):
        return super().play(playbook, *words, STUB_PLACE=str(self.place), **environment)

    def deploy(self, tag="2", *words):
        return self.play("deploy.yml", "-e", f"django_image_tag={tag}", *words)

    def back(self):
        """All hosts answer again, and nothing is asked of them any more."""
        for path in [*self.place.glob("lost-*"), *self.place.glob("fails-*"), *self.place.glob("loses-*"), self.place / "killed", self.place / "trip"]:
            path.unlink(missing_ok=True)

    def runs(self, part="django"):
        return {host: (self.place / host / part).read_text().rpartition(":")[2] for host in self.names if (self.place / host / part).exists()}

    def running(self):
        return {host: (self.place / host / "running").read_text().split() for host in self.names}

    def results(self):
        found = {}
        for host in self.names:
            file = self.place / host / "releases.jsonl"
            found[host] = [json.loads(line)["result"] for line in file.read_text().splitlines()] if file.exists() else []
        return found

    def locked(self):
        return [host for host in self.names if (self.place / host / "deploy.lock").exists()]

    def log_of_points(self):
        file = self.place / "log"
        return file.read_text().splitlines() if file.exists() else []
