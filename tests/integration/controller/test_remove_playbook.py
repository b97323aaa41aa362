"""playbooks/remove.yml over hosts that are directories: what it asks for, and that it changes nothing before that."""

import json

import pytest
from simulated import Hosts

TWO = {"postgresql": ["data"], "redis": ["data"], "web": ["one"], "celery": ["one"], "celery_beat": ["one"], "nginx": ["one"], "backup": [], "watchdog": []}
ASKED = '''"""What a host says of what is there."""
import os

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        place, host, given = os.environ["STUB_PLACE"], task_vars["inventory_hostname"], self._task.args
        with open(f"{place}/log", "a") as log:
            log.write(f"{host} {given['step']} {given['data']} {given['user']}\\n")
        problems = ["remove_data: /srv has 1 MB free"] if os.path.exists(f"{place}/full") else []
        return {"there": True, "lines": [f"goes: all of {host}"], "problems": problems} if given["step"] == "plan" else {"lines": [f"removed all of {host}"]}
'''


@pytest.fixture
def hosts(tmp_path):
    made = Hosts(tmp_path, {name: members for name, members in TWO.items() if members})
    (made.tree / "plugins/action/remove.py").write_text(ASKED)
    (made.tree / "roles/nginx/tasks/main.yml").write_text(
        "- ansible.builtin.shell: 'echo \"$(basename $STUB_AT) nginx {{ nginx_state }}\" >> $STUB_AT/../log'\n"
    )
    (made.tree / "roles/pitr/tasks/cron.yml").write_text("- ansible.builtin.shell: 'echo \"$(basename $STUB_AT) cron {{ pitr_state }}\" >> $STUB_AT/../log'\n")
    return made


def changes(hosts):
    return sorted(line for line in hosts.log_of_points() if line.split()[1] in ("nginx", "cron", "apply"))


def test_it_asks_for_the_name_of_the_environment(hosts):
    assert hosts.play("remove.yml").returncode == 0, hosts.said
    assert "Nothing was changed. To carry it out: -e remove_confirm=canary" in hosts.said and "goes: all of data" in hosts.said
    assert hosts.play("remove.yml", "-e", "remove_confirm=production").returncode != 0
    assert "remove_confirm: production is not the name of this environment; write canary" in " ".join(hosts.said.split())
    assert hosts.play("remove.yml", "-e", "remove_dtaa=aside", "-e", "remove_confirm=canary").returncode != 0 and "remove_dtaa: is no variable" in hosts.said
    (hosts.place / "full").touch()
    assert hosts.play("remove.yml", "-e", "remove_confirm=canary").returncode != 0 and "has 1 MB free" in hosts.said
    assert changes(hosts) == [] and hosts.locked() == []


def test_with_it_every_host_is_cleared(hosts):
    assert hosts.play("remove.yml", "-e", "remove_confirm=canary", "-e", "remove_data=archive").returncode == 0, hosts.said
    assert changes(hosts) == ["data apply archive senex", "data cron absent", "one apply archive senex", "one nginx absent"], hosts.said
    assert hosts.locked() == [] and "removed all of one" in hosts.said
    record = json.loads((hosts.place / "data/releases.jsonl").read_text().splitlines()[-1])
    assert record["kind"] == "remove" and record["result"] == "succeeded" and record["reason"] == "removed all of data"
