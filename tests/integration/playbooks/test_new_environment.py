"""playbooks/new_environment.yml: what it writes for each shape, what is left to fill in, and what it leaves alone."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from controller import ROOT, run, surroundings, view
from rendered import value
from test_environments import ALIEN

SHAPES = {
    "all of it": [],
    "WSGI alone, two servers, a bucket": ["server=wsgi", "celery=no", "redis=no", "media=s3", "web_hosts=2"],
    "no Beat, servers on their own hosts": ["server=wsgi", "beat=false", "topology=services"],
    "Prometheus on a host of its own too": ["topology=monitoring"],
}
# As a user fills them in
GIVEN = {
    "senex_domain": "www.acme.io", "senex_admin_email": "ops@acme.io", "senex_registry": "registry.acme.io/team", "username": "deploy", "senex_image": "shop",
    "senex_image_tag": "2026.11.1", "senex_django_settings_module": "shop.settings.production", "host": "smtp.acme.io", "host_user": "shop",
    "from": "shop@acme.io",
    "AWS_STORAGE_BUCKET_NAME": "shop", "AWS_S3_ENDPOINT_URL": "https://s3.acme.io", "AWS_S3_CUSTOM_DOMAIN": "media.acme.io",
}  # fmt: skip


def real(*argv, cwd, home):
    """A process of its own: it reads the ansible.cfg that is there by now."""
    environment = surroundings(home=home, ANSIBLE_COLLECTIONS_PATH=str(ROOT))
    return subprocess.run([str(word) for word in argv], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def playbook(home, *words, name="new_environment.yml"):
    """As somebody who has the collection elsewhere, in a directory of their own."""
    work = home / "work"
    work.mkdir(exist_ok=True)
    given = ["-e", "vault_place_is_kept=true", *words]  # these tests may run in a container
    return real("ansible-playbook", ROOT / "playbooks" / name, *given, cwd=work, home=home)


def plain(done):
    """As a message is, without what its form does to it."""
    return " ".join((done.stdout + done.stderr).replace("''", "'").split())


def made(home, *shape, name="shop"):
    done = playbook(home, *[word for one in (f"senex_environment={name}", *shape) for word in ("-e", one)])
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "work/inventory" / name, done.stdout


# A part of the first one
LATER = {"no Beat, servers on their own hosts", "Prometheus on a host of its own too"}


@pytest.fixture(scope="module", params=[pytest.param(shape, id=name, marks=[pytest.mark.faults] * (name in LATER)) for name, shape in SHAPES.items()])
def shop(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("shop")
    inventory, said = made(home, *request.param)
    return home, inventory, said, set(request.param)


def written(inventory):
    return [path for path in sorted(inventory.rglob("*.yml")) if path.name != "vault.yml"]


def left(inventory):
    """The last names of what says CHANGE_ME, by file and line."""
    lines = [(path, number, line) for path in written(inventory) for number, line in enumerate(path.read_text().splitlines(), 1)]
    return [(path, number, line) for path, number, line in lines if re.match(r"[^#]*: CHANGE_ME", line)]


def test_hosts_are_in_the_groups_of_the_shape(shop):
    _, inventory, _, shape = shop
    found = yaml.safe_load((inventory / "hosts.yml").read_text())["all"]
    servers = ["shop-1", "shop-2"] if "web_hosts=2" in shape else ["shop-1"]
    groups = {name: list(one["hosts"]) for name, one in found["children"].items()}
    monitored = ["shop-monitoring"] if "topology=monitoring" in shape else []
    assert groups.pop("pgbouncer") == groups.pop("etcd") == groups.pop("logs") == [], "these are for whoever asks for them"
    assert groups.pop("monitoring") == monitored
    if shape & {"topology=services", "topology=monitoring"}:
        everyone = ["shop-1", "shop-database", "shop-queue"]
        assert list(found["hosts"]) == groups.pop("watchdog") == [*everyone, *monitored] and groups.pop("backup") == everyone
        assert groups.pop("celery_beat") == ([] if "beat=false" in shape else ["shop-queue"])
        assert (groups.pop("postgresql"), groups.pop("redis"), groups.pop("celery")) == (["shop-database"], ["shop-queue"], ["shop-queue"])
        assert set(map(str, groups.values())) == {"['shop-1']"} and {"web", "nginx"} <= set(groups)
        return
    assert list(found["hosts"]) == groups.pop("web") == groups.pop("watchdog") == servers
    assert groups.pop("celery") == ([] if "celery=no" in shape else ["shop-1"])
    assert groups.pop("celery_beat") == ([] if shape & {"celery=no", "beat=false"} else ["shop-1"])
    assert groups.pop("redis") == ([] if "redis=no" in shape else ["shop-1"])
    assert set(map(str, groups.values())) == {"['shop-1']"} and {"postgresql", "nginx", "backup"} <= set(groups)


def test_what_is_to_be_filled_in_says_why_and_nothing_is_somebody_elses(shop):
    _, inventory, _, _ = shop
    for path in written(inventory):
        text = path.read_text()
        assert ALIEN.findall(text) == [] and "your-domain" not in text and max(map(len, text.splitlines())) <= 160
    assert left(inventory) and [line for _, _, line in left(inventory) if not re.search(r"CHANGE_ME # \S.+", line)] == []
    assert sum(path.read_text().count("CHANGE_ME") for path in written(inventory)) == len(left(inventory)) + 1, "the one more is what the first line says"


def test_the_vault_opens_with_what_the_configuration_names(shop):
    home, inventory, said, shape = shop
    assert "vault_identity_list = shop@inventory/vault-client\n" in (home / "work/ansible.cfg").read_text()
    secrets = view(inventory / "group_vars/all/vault.yml", "shop@inventory/vault-client", cwd=home / "work", home=home)
    mapped = set(re.findall(r"\{\{ (vault_\w+) \}\}", (inventory / "group_vars/all/main.yml").read_text()))
    assert mapped <= set(secrets) and ("vault_storage_secret_key" in mapped) is ("media=s3" in shape)
    password = (home / ".config/senex.trader/shop.vault-password").read_text().strip()
    assert "shop.vault-password" in said and password not in said and secrets["vault_secret_key"] not in said


def test_a_run_names_all_that_is_left_with_file_and_command(shop):
    home, inventory, _, _ = shop
    done = playbook(home, "-i", "inventory/shop", name="preflight.yml")
    said = plain(done)
    assert done.returncode != 0 and "UNREACHABLE" not in said
    for path, number, line in left(inventory):
        name, place = line.partition(":")[0].strip(), path.relative_to(home / "work")
        assert re.search(rf"\b{name}: is still a placeholder \(CHANGE_ME\) in {place}, line {number}; .{{,40}}\$\{{EDITOR:-vi\}} \+{number} {place}", said), (
            name
        )
    for name in ("vault_registry_password", "vault_email_host_password"):
        assert f"{name}: is still a placeholder in inventory/shop/group_vars/all/vault.yml" in said
    assert "ansible-vault edit inventory/shop/group_vars/all/vault.yml" in said


CHECK = """- hosts: all
  gather_facts: false
  vars_files: [{root}/playbooks/vars/components.yml]
  roles: [senex.trader.senex]
  tasks: {tasks}
"""


def test_nothing_is_missing_when_all_of_it_is_filled_in(shop, tmp_path):
    home, inventory, _, _ = shop
    work = shutil.copytree(home / "work", tmp_path / "work")
    shutil.copytree(home / ".config", tmp_path / ".config")
    filled = work / "inventory/shop"
    for number, (path, line_number, line) in enumerate(left(filled), 1):
        name, lines = line.partition(":")[0].strip(), path.read_text().splitlines()
        value = f"10.0.0.{number}" if name in ("ansible_host", "senex_private_address") else GIVEN[name]
        lines[line_number - 1] = line.replace("CHANGE_ME", value)
        path.write_text("\n".join(lines) + "\n")
    vault, identity = filled / "group_vars/all/vault.yml", {"ANSIBLE_VAULT_IDENTITY_LIST": "shop@inventory/vault-client"}
    text = run("ansible-vault", "view", vault, cwd=work, home=tmp_path, **identity).stdout.replace("CHANGE_ME", "given-by-its-issuer")
    vault.write_text(text)
    assert run("ansible-vault", "encrypt", "--encrypt-vault-id", "shop", vault, cwd=work, home=tmp_path, **identity).returncode == 0
    # Which groups may be empty is another question (test_components.py)
    _, *tasks = yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text())
    (work / "check.yml").write_text(CHECK.format(root=ROOT, tasks=json.dumps(tasks)))
    local = ["-e", "ansible_connection=local", "-e", f"ansible_python_interpreter={sys.executable}"]
    done = real("ansible-playbook", "check.yml", "-i", "inventory/shop", *local, cwd=work, home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_that_is_there_stays(tmp_path):
    configuration = tmp_path / "work/ansible.cfg"
    configuration.parent.mkdir()
    line = f"vault_identity_list = other@{ROOT}/inventory/vault-client"
    configuration.write_text(f"[defaults]\nforks = 7\n{line}\nvault_id_match = True\n")
    inventory, _ = made(tmp_path)
    assert configuration.read_text() == f"[defaults]\nforks = 7\n{line}, shop@inventory/vault-client\nvault_id_match = True\n", "that line, and no other"
    (inventory / "hosts.yml").write_text("# mine\n")
    before = {path: path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()}
    _, said = made(tmp_path, "server=wsgi", "celery=no")
    assert {path: path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()} == before
    assert "kept as they were: hosts.yml, group_vars/all/main.yml" in " ".join(said.split())
    # One that has no such line is somebody's own: said, not changed
    configuration.write_text("[defaults]\nforks = 7\n")
    _, said = made(tmp_path, name="stall")
    assert configuration.read_text() == "[defaults]\nforks = 7\n" and "Add stall@inventory/vault-client to vault_identity_list" in " ".join(said.split())


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([], "is no name of an environment; write small letters, digits and _, such as -e senex_environment=shop"),
        (["senex_environment=../x"], "senex_environment: '../x' is no name of an environment"),
        (["senex_environment=x", "server=uwsgi"], "server: 'uwsgi' is neither asgi nor wsgi"),
        (["senex_environment=x", "celery=maybe"], "celery: 'maybe' is neither yes nor no"),
        (["senex_environment=x", "redis=no"], "redis: 'no' with celery 'yes', whose queue lies in Redis; say celery=no, or redis=yes"),
        (["senex_environment=x", "topology=ha"], "topology: 'ha' is neither one nor services nor monitoring"),
        (["senex_environment=x", "media=disk", "web_hosts=0"], "media: 'disk' is neither local nor s3"),
        (["senex_environment=x", "web_hosts=two"], "web_hosts: 'two' is no number from 1 to 9"),
    ],
)
def test_what_is_no_shape_is_refused_before_anything_is_written(tmp_path, shape, says):
    refused = playbook(tmp_path, *[word for one in shape for word in ("-e", one)])
    assert refused.returncode != 0 and says in plain(refused)
    assert not [path for path in tmp_path.rglob("*") if path.name in ("inventory", "ansible.cfg", ".config")]


PAGE = (ROOT / "docs/user/your-application.md").read_text(encoding="utf-8")
RECIPE = r"^    ansible-playbook playbooks/new_environment\.yml (-e .+)\n(?:.*\n)*?^    senex_image_commands:\n((?:      .+\n)+)"
RECIPES = re.findall(RECIPE, PAGE, re.MULTILINE)


@pytest.mark.parametrize(("words", "block"), RECIPES, ids=["ASGI", "WSGI"])
def test_a_recipe_that_is_typed_gives_what_its_page_shows(tmp_path, words, block):
    done = playbook(tmp_path, *words.split())
    assert done.returncode == 0, done.stdout + done.stderr
    written_down = yaml.safe_load((tmp_path / "work/inventory/shop/group_vars/all/main.yml").read_text())
    given = {**written_down, "senex_django_settings_module": "shop.settings.production"}
    assert value("django", "senex_image_commands", **given) == yaml.safe_load(block)
