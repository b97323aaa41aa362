"""playbooks/update_images.yml over hosts that are directories: the order of things, and what becomes of a server that does not come up."""

import json

import pytest
from simulated import Hosts

THREE = {
    "postgresql": ["data"], "redis": ["cache"], "web": ["one"], "celery": ["one"], "celery_beat": ["one"], "nginx": ["one"], "backup": ["data", "cache"],
    "watchdog": ["data"],
}  # fmt: skip
SERVER = """- name: Restart it
  senex.trader.release:
    step: run
    id: "{{ update_images_id }}"
    what: PART
    argv:
      - sh
      - -c
      - 'echo "$(basename $STUB_AT) PART $0" >> $STUB_AT/../log; ! test -e $STUB_AT/../fails-PART-$0'
      - "{{ (__senex_images | dict2items | first).value.id }}"
"""
ASKED = '''"""What a host says of its images."""
import os

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        place, host, given = os.environ["STUB_PLACE"], task_vars["inventory_hostname"], self._task.args
        names = [server["component"] for server in given["servers"]]
        with open(f"{place}/log", "a") as log:
            log.write(f"{host} {given['step']} {' '.join(names)}\\n")
        if given["step"] == "verify":
            failed = os.path.exists(f"{place}/fails-verify-{names[0]}")
            return {"failed": failed, "msg": f"{names[0]} is of version 1.0, and its image has 1.1"}
        ways = {name: "major" if os.path.exists(f"{place}/major-{name}") else "none" if os.path.exists(f"{place}/none") else "update" for name in names}
        way = lambda name: {"id": f"new-{name}", "previous": f"old-{name}"}
        return {"plan": [
            {"component": name, "input": f"{name}_image", "way": ways[name], "line": f"{name}: 1.0 -> 1.1", "refusal": f"{name}_image: another major version",
             "images": {"image": {"id": "new", "previous": "old"}}, "former": {"image": {"id": "old", "previous": "old"}}} for name in names]}
'''
WORDS = ("update_images.yml", "-e", "update_images_confirm=true")


@pytest.fixture
def hosts(tmp_path):
    made = Hosts(tmp_path, THREE, postgresql_image="registry.example.com/postgres:15", redis_image="registry.example.com/redis:7")
    (made.tree / "plugins/action/server_images.py").write_text(ASKED)
    for name in ("postgresql", "redis"):
        (made.tree / f"roles/{name}/tasks/main.yml").write_text(SERVER.replace("PART", name))
        (made.tree / f"roles/{name}/tasks/check.yml").write_text("- ansible.builtin.meta: noop\n")
    (made.tree / "roles/backup/tasks/manual.yml").write_text(
        """- ansible.builtin.shell: 'echo "$(basename $STUB_AT) copy" >> $STUB_AT/../log'\n  when: backup_manual_kinds == ['redis']\n"""
    )
    # The traffic probe asks a real address
    book = made.tree / "playbooks/update_images.yml"
    book.write_text(book.read_text().replace("senex.trader.traffic_probe:\n        state: once", "ansible.builtin.set_fact:\n        probed: true"))
    return made


def steps(hosts):
    return [line for line in hosts.log_of_points() if line.split()[1] in ("postgresql", "redis", "verify", "copy", "dump")]


def test_data_is_saved_and_then_one_server_after_the_other_restarts(hosts):
    hosts.play(*WORDS)
    assert steps(hosts)[-4:] == ["data postgresql new", "data verify postgresql", "cache redis new", "cache verify redis"], hosts.said
    assert "cache copy" in steps(hosts)[:-4] and hosts.locked() == []
    record = json.loads((hosts.place / "data/releases.jsonl").read_text().splitlines()[-1])
    assert record["kind"] == "images" and record["result"] == "succeeded" and "postgresql: 1.0 -> 1.1" in record["reason"]


def test_without_a_word_nothing_is_done(hosts):
    assert hosts.play("update_images.yml").returncode == 0, hosts.said
    assert "Nothing was changed. To carry it out: -e update_images_confirm=true" in hosts.said and steps(hosts) == [] and hosts.locked() == []
    (hosts.place / "none").touch()
    assert hosts.play(*WORDS).returncode == 0 and "Nothing to do" in hosts.said and steps(hosts) == [], hosts.said


@pytest.mark.faults
def test_one_alone(hosts):
    hosts.play(*WORDS, "-e", "update_images_only=redis")
    assert steps(hosts) == ["cache copy", "cache redis new", "cache verify redis"], hosts.said


def test_what_is_refused_of_one_host_keeps_the_others_as_they_are(hosts):
    (hosts.place / "major-redis").touch()
    assert hosts.play(*WORDS).returncode != 0 and "redis_image: another major version" in hosts.said and steps(hosts) == [] and hosts.locked() == []


@pytest.mark.parametrize(("fails", "back"), [
    ("postgresql-new", True),
    pytest.param("verify-postgresql", True, marks=pytest.mark.faults),
    pytest.param("redis-new", False, marks=pytest.mark.faults),
])  # fmt: skip
def test_what_does_not_come_up_gets_the_image_from_before(hosts, fails, back):
    """And the other server is not begun; one that is done stays."""
    (hosts.place / f"fails-{fails}").touch()
    assert hosts.play(*WORDS).returncode != 0
    name = "postgresql" if back else "redis"
    assert steps(hosts)[-1].endswith(f" {name} old") and ("cache redis new" in steps(hosts)) is not back, hosts.said
    assert f"{name} runs with the image from before" in hosts.said and hosts.locked() == []
    record = json.loads((hosts.place / "one/releases.jsonl").read_text().splitlines()[-1])
    assert record["result"] == "failed" and "runs with the image from before" in record["reason"]
