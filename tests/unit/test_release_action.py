"""What the controller does for a release: waits for a lock, and brings an image that no registry has."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.senex.trader.plugins.action import release
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger
from ansible_collections.senex.trader.plugins.plugin_utils import controller, image_archive
from rendered import ROLES, loaded, trust_as_template, trusted

IMAGE = "ab" * 32
ELSEWHERE = {"id": "theirs", "machine": "another", "pid": 1, "started": "1"}


class Shell:
    join_path = staticmethod(lambda *parts: "/".join(parts))


class Connection:
    _shell = Shell


class Action(release.ActionModule):
    """The plugin with a host that answers from a list."""

    def __init__(self, answers, **arguments):
        self.answers, self.asked, self.shown, self.copies, self.removed = list(answers), [], [], [], []
        self._task = type("Task", (), {"args": arguments, "async_val": 0, "check_mode": False, "diff": False, "environment": None, "no_log": False})()
        self._connection = Connection

    def _execute_module(self, module_name=None, module_args=None, task_vars=None):
        self.asked.append(dict(module_args))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _make_tmp_path(self):
        return "/root/.ansible/tmp/x"

    def _transfer_file(self, local, remote):
        self.copies.append((local, remote))
        return remote

    def _remove_tmp_path(self, path):
        self.removed.append(path)


@pytest.fixture
def act(monkeypatch):
    clock, shown = [0.0], []
    monkeypatch.setattr(release.RenderingAction, "run", lambda *_: {})
    monkeypatch.setattr(release.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(release.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(release.Display, "display", lambda _self, text, *_, **__: shown.append(text))

    def run(answers, **arguments):
        action = Action(answers, **arguments)
        result = action.run(task_vars={"inventory_hostname": "one"})
        action.shown, action.seconds = shown, clock[0]
        return result, action

    return run


def had(result, identifier=""):
    """What a lock that was taken is answered with, beside what the run knows of it from then on."""
    held = result.pop("ansible_facts")["senex_operation"]
    return held == {"id": identifier, "run": controller.run_name()}


def busy(holder=ELSEWHERE):
    return {"busy": holder, "message": "an operation is under way: deploy of 2 by anna, now at 'web'. Wait for its end. Or take over"}


def test_a_lock_is_waited_for_and_who_has_it_is_shown(act):
    result, action = act([busy()] * 9 + [{"changed": True}], step="begin", wait=120)
    assert had(result) and result == {"changed": True} and action.seconds == 9 * release.LOOKS
    assert action.shown[0] == "one: an operation is under way: deploy of 2 by anna, now at 'web'; waiting for another 120 s"
    assert len(action.shown) == 2, "a line each half minute"
    assert not any("wait" in asked or "archive" in asked for asked in action.asked)


@pytest.mark.parametrize(("wait", "said"), [(0, "Or take over"), (12, "Waited 12 s (release_lock_wait).")])
def test_it_ends(act, wait, said):
    result, action = act([busy()], step="begin", wait=wait)
    assert result["failed"] and result["busy"] == ELSEWHERE and result["msg"].endswith(said) and action.seconds == wait


def test_a_dead_holder_is_not_waited_for(act):
    here = {**ELSEWHERE, "machine": controller.machine(), "namespace": controller.namespace(), "pid": 2**30}
    result, action = act([busy(here), {"changed": True}], step="begin", wait=600)
    assert had(result) and result == {"changed": True} and action.seconds == 0 and action.asked[1]["take_over"] == "theirs"
    result, action = act([busy(here)], step="begin")
    assert result["failed"] and len(action.asked) == 2, "another one was faster: it is asked once more, and not for ever"


def test_that_a_dead_one_was_there_is_said_by_every_operation(act):
    dead = {**ELSEWHERE, "what": "restore", "who": "anna@desk", "step": "restore a copy"}
    act([{"changed": True, "taken_over": None}], step="begin")
    _result, action = act([{"changed": True, "taken_over": dead}], step="begin")
    assert action.shown == ["one: restore by anna@desk ended at 'restore a copy' without a word; this run goes on after it"]


def test_a_script_of_a_release_gets_the_unit_of_its_image(monkeypatch):
    """The same template, the inventory's commands and paths, and the static files of that very image: also where the play has no role django."""
    from rendered import action, component, variables

    inventory = {"senex_domain": "a.io", "senex_registry": "r", "senex_image_tag": "1", "senex_ca_certificate": "x", "django_media_directory": "/srv/up"}
    inventory |= {f"senex_{name}": "x" * 24 for name in ("database_password", "redis_password", "secret_key", "field_encryption_key")}
    asked = []
    monkeypatch.setattr(release.ActionModule, "_execute_module", lambda *_, module_args, **__: asked.append(module_args) or {})
    monkeypatch.setattr(release.RenderingAction, "run", lambda *_: {})
    play = variables("release", **inventory)
    container = {"image": "r/app:2", "network": "net", "timeout": 5}
    plugin = action(release.ActionModule, {"step": "plan", "container": container, "script": "x"}, play, ROLES / "release")
    plugin._task.args = {"step": "plan", "container": container, "script": "x"}
    plugin.run(task_vars=play)
    wanted = component("django", **inventory, senex_image_reference="r/app:2")[0]["release.container"][0]
    assert asked[0]["container"] == {**container, "unit": wanted}
    assert "data/static/2:/app/staticfiles" in wanted and "data/media:/srv/up" in wanted


def tar(path, files, packed=False):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(gzip.compress(buffer.getvalue()) if packed else buffer.getvalue())
    return str(path)


DOCKER = {"manifest.json": [{"Config": f"{IMAGE}.json", "RepoTags": ["app:1"], "Layers": []}]}
NEWER = {"manifest.json": [{"Config": f"blobs/sha256/{IMAGE}"}], "index.json": {}}
OCI = {"index.json": {"manifests": [{"digest": "sha256:ef"}]}, "blobs/sha256/ef": {"config": {"digest": f"sha256:{IMAGE}"}}}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("files", [DOCKER, NEWER, OCI], ids=["docker", "newer docker", "oci"])
def test_what_an_archive_holds(tmp_path, files, packed):
    path = tar(tmp_path / "app.tar", files, packed)
    content = (tmp_path / "app.tar").read_bytes()
    assert image_archive.describe(path) == {"image": IMAGE, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"manifest.json": DOCKER["manifest.json"] * 2}, "holds 2 images"),
        ({"manifest.json": [{"Config": "../../etc/passwd"}]}, "is no image id"),
        ({"etc/hostname": b"x"}, "no archive of podman save"),
        ({"manifest.json": b"{"}, "no archive of podman save"),
        (None, "no archive of podman save"),
    ],
)
def test_what_is_no_archive_of_one_image_is_said_before_any_host_is_asked(act, tmp_path, files, why):
    path = tar(tmp_path / "app.tar", files) if files else str(tmp_path / "app.tar")
    if not files:
        (tmp_path / "app.tar").write_text("no tar at all")
    result, action = act([{}], step="begin", archive=path, image="r/app:1")
    assert result["failed"] and result["msg"].startswith("senex_image_from: ") and why in result["msg"] and action.asked == []
    missing, _ = act([{}], step="load", archive=str(tmp_path / "none.tar"), image="r/app:1")
    assert "is no file of this machine" in missing["msg"]


def test_an_archive_is_copied_where_its_image_is_missing_under_the_lock(act, tmp_path):
    path = tar(tmp_path / "app.tar", DOCKER)
    pulled = {"image": IMAGE, "digest": "sha256:1", "running": {}, "changed": True}
    answers = [{"changed": True, "taken_over": None}, {"missing": True, "changed": False}, pulled]
    result, action = act(answers, step="begin", id="r1", archive=path, image="r/app:1", kept=False, traffic_probe={"x": 1}, user="senex", home="/h")
    begin, asked, loaded = action.asked
    assert begin["image"] == "" and begin["traffic_probe"] == {"x": 1} and "identity" in begin, "nothing is pulled"
    assert (asked["step"], asked["image"], asked["wanted"]["image"], asked.get("source")) == ("load", "r/app:1", IMAGE, None)
    assert action.copies == [(path, "/root/.ansible/tmp/x/image.tar")] and loaded["source"] == action.copies[0][1] and loaded["id"] == "r1"
    assert action.removed == ["/root/.ansible/tmp/x"] and had(result, "r1") and result == {**pulled, "taken_over": None}


def test_nothing_is_copied_where_it_is_there_or_the_lock_is_not_had(act, tmp_path):
    path = tar(tmp_path / "app.tar", DOCKER)
    result, action = act([{"changed": False, "image": IMAGE}], step="load", archive=path, image="r/app:1")
    assert action.copies == [] and result == {"changed": False, "image": IMAGE}
    result, action = act([busy()], step="begin", archive=path, image="r/app:1")
    assert result["failed"] and action.copies == [] and len(action.asked) == 1
    result, action = act([{"changed": True}], step="begin", archive=path, image="")
    assert len(action.asked) == 1 and action.copies == [], "a host that does not run it"


@pytest.mark.parametrize("change", [
    {"namespace": "pid:[1]"},  # the process of another container's on this machine, which is not seen here
    {"namespace": ""},
    {"namespace": None},  # an earlier version did not say
    {"machine": "another"},
    {"pid": "x"},
    {"pid": 0},
])  # fmt: skip
def test_a_holder_that_cannot_be_seen_is_waited_for(act, change):
    here = {**ELSEWHERE, "machine": controller.machine(), "namespace": controller.namespace(), "pid": 2**30, **change}
    assert not controller.dead(here)
    result, action = act([busy(here)], step="begin")
    assert result["failed"] and len(action.asked) == 1


def test_who_lives_is_not_dead_and_whose_number_another_one_has_is(monkeypatch):
    me = {**controller.identity()}
    assert me["pid"] and me["started"] and me["namespace"].startswith("pid:[") and not controller.dead(me)
    assert controller.dead({**me, "started": "1"})
    monkeypatch.setattr(controller, "started", lambda _pid: "")
    assert not controller.dead({**me, "started": "1"}), "a /proc that hides what others run"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_a_process_of_another_namespace_sees_a_live_holder(tmp_path):
    """As a job container on the same kernel: its /proc has other processes under the same numbers, or none."""
    holder = json.dumps(controller.identity())
    program = f"import importlib.util as u; s = u.spec_from_file_location('c', {controller.__file__!r}); m = u.module_from_spec(s); s.loader.exec_module(m)"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c",
         f"{program}; import json; h = json.loads({holder!r}); print(m.machine() == h['machine'], m.namespace() != h['namespace'], m.dead(h))"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


@pytest.mark.parametrize(
    ("pulled", "locked"),
    [({"image": "x"}, True), ({"failed": True, "msg": "no image"}, True), ({"busy": ELSEWHERE}, False), ({"skipped": True}, False), (None, False)],
)
def test_who_did_not_get_the_lock_is_known(pulled, locked):
    """Or it would stop the prober of the release that has it. Hosts skip theirs where the first one waited in vain."""
    variables = loaded(ROLES.parent / "playbooks/vars/release.yml") | ({} if pulled is None else {"release_pulled": pulled})
    assert Templar(loader=DataLoader(), variables=trusted(variables)).template(trust_as_template("{{ __release_locked }}")) is locked


def test_all_releases_take_the_same_host_first():
    """tests/integration/playbooks/test_lock_wait.py runs it."""
    wait, takes, *_ = yaml.safe_load((ROLES.parent / "playbooks/release/prepare.yml").read_text())
    assert wait["ansible.builtin.include_tasks"] == "wait.yml" and "release_lock_wait" in wait["when"] and "wait" not in takes["senex.trader.release"]
    first, *_ = yaml.safe_load((ROLES.parent / "playbooks/release/wait_round.yml").read_text())
    assert "__release_first" in first["when"] and loaded(ROLES.parent / "playbooks/vars/release.yml")["__release_first"] == "{{ ansible_play_hosts_all[0] }}"


@pytest.mark.parametrize(("known", "newest", "found"), [
    ({"id": "20261101-1"}, [{"id": "20261101-1"}, None], []),
    ({"id": "20261101-1"}, [{"id": "20261102-1", "tag": "3"}, {"id": "20261101-1"}], ["20261102-1"]),
    ({}, [{}, {"id": "20261101-1", "tag": "3"}], ["20261101-1"]),
    ({}, [None, None], []),
])  # fmt: skip
def test_what_was_released_while_this_one_waited_is_what_a_way_back_leads_to(known, newest, found):
    """The lock was another's when this run looked."""
    hosts = {name: {} if one is None else {"release_pulled": {"newest": one}} for name, one in zip(("one", "two"), newest, strict=True)}
    variables = loaded(ROLES.parent / "playbooks/vars/release.yml") | {"groups": {"web": list(hosts)}, "hostvars": hosts, "senex_release": known}
    answer = Templar(loader=DataLoader(), variables=trusted(variables)).template(trust_as_template("{{ __release_newer_records }}"))
    assert [one["id"] for one in answer] == found


def test_the_newest_is_the_last_that_ended_well(tmp_path):
    ledger = Ledger(str(tmp_path))
    assert ledger.newest() == {}
    for name, result in (("a", "succeeded"), ("b", "succeeded"), ("c", "switched back")):
        ledger.begin({"id": name, "what": f"deploy of {name}", "who": "anna@desk"})
        ledger.finish(name, {"result": result, "reference": f"r/{name}", "tag": name})
    newest = ledger.newest()
    assert {name: newest[name] for name in ("id", "tag", "reference", "result")} == {"id": "b", "tag": "b", "reference": "r/b", "result": "succeeded"}
