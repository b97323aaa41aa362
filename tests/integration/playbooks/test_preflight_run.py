"""The screen of preflight.yml in a real run. What it is made of: tests/unit/test_preflight.py."""

import sys

import yaml
from controller import ROOT, run


def test_a_refused_input_does_not_hide_the_screen(tmp_path):
    """What is asked of the world is made of inputs; where those are refused it says so, below the refusal, and not nothing at all."""
    (play,) = yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text())
    left_out = ("Read the facts", "Run the input checks of each component", "Check that no tag is given")
    kept = [task for task in play["tasks"] if task["name"] not in left_out]
    (tmp_path / "vars").mkdir()
    (tmp_path / "vars/components.yml").write_text((ROOT / "playbooks/vars/components.yml").read_text())
    kept.insert(
        2, {"name": "Refuse", "ansible.builtin.set_fact": {"senex_preflight": [{"key": "inventory", "level": "FAIL", "says": "senex_email: no", "do": ""}]}}
    )
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{**play, "tasks": kept}]))
    wrong = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "senex_domain": "www.senex.test",
        "senex_email": {"host": "mx.senex.test"},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"web": {"hosts": {"one": wrong}}}))
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", home=tmp_path)
    assert "FAIL  inventory: senex_email: no" in done.stdout and "FAIL  world: could not be asked" in done.stdout, done.stdout + done.stderr
    assert "one is not ready for a deployment" in done.stdout and done.returncode
