"""release_lock_wait with several hosts, run by Ansible: all of them or none, and nobody waits for a run that waits."""

import json
import os
import shutil
import sys

import pytest
import yaml
from controller import BIN, ROOT, run

HOSTS = ["one", "two", "three"]
# In the place of the module and its action: a lock is a file that names its holder. What has to happen meanwhile happens with each look at a lock
STUB = """import json, os, time
from ansible.plugins.action import ActionBase

PLACE = os.environ["STUB_PLACE"]


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        given, host = self._task.args, task_vars["inventory_hostname"]
        lock, end, looks = os.path.join(PLACE, host), time.monotonic() + float(given.get("wait", 0) or 0), 0
        self.log(host, given["step"], float(given.get("wait", 0) or 0) > 0)
        if given["step"] == "finish":
            held = os.path.exists(lock) and open(lock).read() == given["id"]
            if held:
                os.unlink(lock)
            return {"changed": held, "held": held}
        while True:
            looks += 1
            try:
                with open(lock, "x") as handle:
                    handle.write(given["id"])
                return {"changed": True}
            except FileExistsError:
                holder = open(lock).read()
            if holder == given["id"]:
                return {"changed": True}
            if time.monotonic() >= end:
                waited = f" Waited {float(given['wait']):.0f} s (release_lock_wait)." if given.get("wait") else ""
                return {"failed": True, "busy": {"id": holder}, "msg": f"{host}: an operation is under way: {holder}.{waited}"}
            mine = [name for name in os.listdir(PLACE) if name != "log" and open(os.path.join(PLACE, name)).read() == given["id"]]
            self.log(host, "waits", mine)
            time.sleep(0.2)
            if looks == 3 and holder != "stays":
                os.unlink(lock)

    def log(self, *what):
        with open(os.path.join(PLACE, "log"), "a") as handle:
            handle.write(json.dumps(what) + "\\n")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The collection's own role and a stub of its module, for all tests: what Ansible reads at its start is the same."""
    home = tmp_path_factory.mktemp("site")
    tree = home / "ansible_collections/senex/trader"
    (tree / "plugins/action").mkdir(parents=True)
    (tree / "plugins/action/release.py").write_text(STUB)
    (tree / "plugins/modules").mkdir()
    shutil.copy(ROOT / "plugins/modules/release.py", tree / "plugins/modules")
    shutil.copytree(ROOT / "roles/release", tree / "roles/release")
    # Four rounds are as many as any of these tests needs; all of them are gone through, and cost a process for each task and host
    stages = shutil.copytree(ROOT / "playbooks/release", home / "release")
    text = (stages / "wait.yml").read_text()
    assert "range(1, 7)" in text
    (stages / "wait.yml").write_text(text.replace("range(1, 7)", "range(1, 5)"))
    (tree / "roles/release/meta/main.yml").write_text("dependencies: []\n")
    shutil.copytree(ROOT / "plugins/filter", tree / "plugins/filter")
    shutil.copytree(ROOT / "plugins/module_utils", tree / "plugins/module_utils")
    for name in ("meta", "galaxy.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    about = {"hosts": "all", "gather_facts": False, "vars": {"release_id": "mine", "release_kind": "deploy", "release_tag": "2"}}
    about["vars_files"] = [str(ROOT / "playbooks/vars/release.yml")]
    inputs = {"ansible.builtin.import_role": {"name": "senex.trader.release", "rolespec_validate": False}}
    wait = {"ansible.builtin.include_tasks": str(stages / "wait.yml")}
    (home / "play.yml").write_text(yaml.safe_dump([{**about, "tasks": [inputs, wait]}]))
    (home / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(HOSTS)}}))
    # As in the checkout's own: to look each millisecond whether a task has ended costs more than the tasks
    (home / "ansible.cfg").write_text("[defaults]\nforks = 20\ninternal_poll_interval = 0.01\n")
    return home


@pytest.fixture
def site(made, tmp_path):
    place = tmp_path / "locks"
    place.mkdir()

    def waited(seconds, **others):
        for host, holder in others.items():
            (place / host).write_text(holder)
        done = run(
            "ansible-playbook", "-i", made / "hosts.yml", made / "play.yml", "-e", f"release_lock_wait={seconds}", "-e", "ansible_connection=local",
            "-e", f"ansible_python_interpreter={sys.executable}", cwd=made, ANSIBLE_COLLECTIONS_PATH=f"{made}:{ROOT}", STUB_PLACE=str(place),
            HOME=str(made), PATH=f"{BIN}:{os.environ['PATH']}",
        )  # fmt: skip
        assert (place / "log").exists(), done.stdout + done.stderr
        log = [json.loads(line) for line in (place / "log").read_text().splitlines()]
        return done, {path.name: path.read_text() for path in place.iterdir() if path.name != "log"}, log

    return waited


def test_all_that_are_free_are_taken_at_once(site):
    done, locks, log = site(60)
    assert done.returncode == 0 and locks == dict.fromkeys(HOSTS, "mine"), done.stdout
    assert all(kind != "waits" for _host, kind, _more in log) and len(log) == 3


@pytest.mark.parametrize("busy", [["two"], ["one", "two", "three"]])
def test_the_wait_is_for_the_set_and_nothing_is_held_meanwhile(site, busy):
    done, locks, log = site(60, **dict.fromkeys(busy, "theirs"))
    assert done.returncode == 0 and locks == dict.fromkeys(HOSTS, "mine"), done.stdout
    waits = [(host, mine) for host, kind, mine in log if kind == "waits"]
    assert {host for host, _mine in waits} == set(busy)
    assert all(mine == [] for _host, mine in waits), "who waits has nothing that another one may wait for"


def test_it_ends_and_says_for_what_it_waited(site):
    done, locks, _log = site(2, two="stays")
    assert done.returncode != 0 and locks == {"two": "stays"}, "what was had is given up"
    assert "two: an operation is under way: stays. Waited 2 s for all hosts to be free at once (release_lock_wait)" in done.stdout.replace("\n", " ")


def test_the_first_host_is_waited_for_before_any_other_is_asked(site):
    done, locks, log = site(2, one="stays")
    assert done.returncode != 0 and locks == {"one": "stays"}
    assert "one: an operation is under way: stays. Waited 2 s for all" in done.stdout.replace("\n", " ")
    assert not [host for host, kind, _more in log if kind == "begin" and host != "one"]
