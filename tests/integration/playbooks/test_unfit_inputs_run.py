"""Which inputs a run judges. How each is judged: tests/unit/test_unfit_inputs.py."""

import re

from controller import run

PLAY = """
- hosts: all
  gather_facts: false
  vars: {nginx_of_a_play: 1}
  tasks:
    - {ansible.builtin.set_fact: {postgresql_upgrade_answer: {}, backup_stopped_units: []}}
- hosts: all
  gather_facts: false
  vars: {nginx_of_a_play: 1}
  tasks:
    - ansible.builtin.debug: {msg: "{{ query('senex.trader.unfit_inputs', 'nginx', 'redis', 'pitr', 'postgresql', 'backup') }}"}
"""


def test_only_what_was_given_is_judged(tmp_path):
    """By the inventory, a file beside it or -e; what plays have and earlier ones left is their own."""
    (tmp_path / "hosts.yml").write_text("all: {hosts: {one: {redis_of_a_host: 1, ansible_connection: local}}, vars: {redis_exporter_port: 1}}")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("pitr_owner: senex\nsenex_foreign_variables: [redis_exporter_*]\nmolecule_roles_before: []\n")
    (tmp_path / "play.yml").write_text(PLAY)
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "-e", "nginx_of_a_line=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"(\w+): (?:is no input any more|no role has an input)", done.stdout)) == ["nginx_of_a_line", "pitr_owner", "redis_of_a_host"]
