"""What a rollback does with what the newer image says of its migrations, and what its record says afterwards."""

import json
import shutil

import pytest
from controller import ONE, ROOT, Stubbed

# The engine's answers, and what it was given
ENGINE = """import json
import os

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        given = self._task.args
        with open(os.environ["STUB_GIVEN"], "a") as handle:
            handle.write(json.dumps({name: given.get(name) for name in ("step", "script", "container", "record")}, default=str) + "\\n")
        return json.loads(os.environ["STUB_ANSWERS"]).get(given["step"], {"changed": False})
"""
PLAYBOOK = """- hosts: one
  gather_facts: false
  roles: [senex.trader.senex]
  vars_files: [vars/release.yml]
  tasks:
    - {ansible.builtin.import_role: {name: senex.trader.release, rolespec_validate: false}}
    - ansible.builtin.set_fact:
        release_kind: rollback
        release_id: r1
        release_tag: "1"
        release_reference: image:1
        release_inventory_tag: "1"
        release_previous: {reference: "image:2", tag: "2"}
        release_undo: [app.0003_merge, app.0002_b]
        release_skipped_stages: []
        release_probe_results: {}
        release_pulled: {}
        release_confirmed: [prepare, dump, web, celery, verify] # the stages that this is not about
    - {ansible.builtin.include_tasks: release/stage.yml, vars: {release_stage: plan}}
    - {ansible.builtin.include_tasks: release/stage.yml, vars: {release_stage: undo}}
    - {ansible.builtin.include_tasks: release/finish.yml}
"""
UNDO = "-e release_undo_migrations=true"
ORDER = ["app.0003_merge", "app.0002_b"]
REFUSED = {"order": ORDER, "back": [], "refused": ["app.0002_a would go with app.0002_b"]}
GOOD = {"order": ORDER, "back": [], "refused": []}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    made = Stubbed(tmp_path_factory.mktemp("back"), ONE, {"vault_redis_password": "old-redis-password"})
    shutil.copytree(ROOT / "roles/release", made.tree / "roles/release")
    (made.tree / "plugins/action/release.py").write_text(ENGINE)
    (made.tree / "playbooks/way_back.yml").write_text(PLAYBOOK)
    return made


@pytest.mark.parametrize(
    ("words", "undo", "done", "steps", "says", "undone"),
    [
        ("", GOOD, {}, ["plan", "finish"], "leaves app.0003_merge, app.0002_b behind", []),
        (UNDO, REFUSED, {}, ["plan", "finish"], "1 is out of reach: app.0002_a would go with app.0002_b", []),
        # Both at once means to undo, and what is refused stays so
        (f"{UNDO} -e release_keep_migrations=true", REFUSED, {}, ["plan", "finish"], "is out of reach", []),
        (UNDO, GOOD, {"changed": True, "undone": ORDER, "back": []}, ["plan", "undo", "finish"], "", ORDER),
        (UNDO, GOOD, {"changed": True, "undone": ORDER[1:], "back": ORDER[:1]}, ["plan", "undo", "finish"], "", [ORDER[1], ORDER[0]]),
        (UNDO, GOOD, {"failed": True, "msg": "locked", "undone": ORDER[:1], "back": []}, ["plan", "undo", "finish"], "one, undo: locked", ORDER[:1]),
    ],
)
def test_what_is_refused_is_not_done_and_what_was_done_is_recorded(stack, tmp_path, words, undo, done, steps, says, undone):
    given = tmp_path / "given"
    answers = {"plan": {"changed": False, "plan": {"pending": [], "due": {}, "undo": undo}}, "undo": done, "finish": {"changed": True, "held": True}}
    result = stack.play("way_back.yml", *words.split(), STUB_GIVEN=str(given), STUB_ANSWERS=json.dumps(answers))
    asked = [json.loads(line) for line in given.read_text().splitlines()]
    assert [one["step"] for one in asked] == steps, stack.said
    assert (result.returncode != 0) is bool(says) and says in stack.said, stack.said
    assert asked[-1]["record"]["undone"] == undone
    for one in asked[:-1]:
        assert one["container"]["image"] == "image:2" and json.loads(one["container"]["environment"]["PLAN_UNDO"]) == ORDER
        assert "def backwards(" in one["script"], "what is said before and what is done is decided by the same lines"
