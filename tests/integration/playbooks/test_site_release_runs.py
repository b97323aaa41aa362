"""A run that would replace the application's image on the way says how to release it; what does not replace it goes on."""

import json
import re
import sys

import pytest
import yaml
from controller import NO_CLIENTS, ROOT
from controller import run as ansible

DIGEST = f"sha256:{'a' * 64}"


LOOK, CHECK = "Read the facts of the host, and which components are unchanged", "Check that the application's image is not replaced without a release"


RELEASED = {"reference": "r/shop:2", "tag": "2", "inventory_tag": "1", "id": "x"}


# What runs, what the run is given, and whether it is refused
CASES = {
    "nothing runs yet": ("", {}, False),
    "the same": ("r/shop:1", {}, False),
    "another tag": ("r/shop:1", {"senex_image_tag": "5"}, True),
    "a digest": ("r/shop:1", {"senex_image_tag": DIGEST}, True),
    "another registry": ("other/shop:1", {}, True),
    "released": ("r/shop:2", {"senex_release": RELEASED}, False),
    "released, and the inventory has it": ("r/shop:2", {"senex_release": RELEASED, "senex_image_tag": "2"}, False),
    "released, and the inventory has another": ("r/shop:2", {"senex_release": RELEASED, "senex_image_tag": "5"}, True),
    "missed the release": ("r/shop:1", {"senex_release": RELEASED}, False),
    "no release can be made": ("r/shop:1", {"senex_image_tag": "5", "senex_image_without_release": True}, False),
    "a run for other components": ("r/shop:1", {"senex_image_tag": "5", "validate_components": ["postgresql", "pitr"]}, False),
    "a run for none": ("r/shop:1", {"senex_image_tag": "5", "validate_components": []}, False),
    "a run for these": ("r/shop:1", {"senex_image_tag": "5", "validate_components": ["django", "celery", "nginx"]}, True),
    "a release": ("r/shop:1", {"senex_image_tag": "5", "validate_release": False}, False),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the two tasks of validate.yml say, each case on a host of its own."""
    place = tmp_path_factory.mktemp("hosts")
    (play,) = yaml.safe_load((ROOT / "playbooks/validate.yml").read_text())
    tasks = [task for task in play["tasks"] if task["name"] in (LOOK, CHECK)]
    assert len(tasks) == 2
    hosts = {}
    for number, (image, given, _) in enumerate(CASES.values()):
        home = place / f"home-{number}"
        unit = home / ".config/containers/systemd/web-1.container"
        unit.parent.mkdir(parents=True)
        if image:
            unit.write_text(f"[Unit]\nDescription=Image=no\n[Container]\nImage={image}\nPull=never\n")
        hosts[f"case-{number}"] = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "senex_home": str(home), "validate_exclusive": False,
            "validate_snapshot": False, "senex_registry": "r", "senex_image": "shop", "senex_image_tag": "1", "senex_release": {}, **given,
        }  # fmt: skip
    (place / "hosts.json").write_text(json.dumps({"web": {"hosts": hosts}}))
    files = [str(ROOT / "playbooks" / path) for path in play["vars_files"]]
    (place / "play.yml").write_text(json.dumps([{"hosts": "web", "gather_facts": False, "roles": play["roles"], "vars_files": files, "tasks": tasks}]))
    done = ansible("ansible-playbook", "-i", place / "hosts.json", place / "play.yml", "--forks", "4", ANSIBLE_LOCALHOST_WARNING="false", **NO_CLIENTS)
    text = " ".join((done.stdout + done.stderr).replace("''", "'").split())
    assert set(hosts) <= set(re.findall(r"case-\d+", text)), text
    return text


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=CASES)
def test_the_image_is_replaced_by_a_release_alone(said, number, case):
    *_, refused = CASES[case]
    assert (f"fatal: [case-{number}]" in said) is refused, said
    if refused:
        image, given, _ = CASES[case]
        tag = given.get("senex_image_tag", "1")
        assert f"case-{number} runs {image}, and" in said and f"deploy.yml -i {said.split(' -i ')[1].split()[0]} -e django_image_tag={tag}" in said
