"""One look for all parts: a part counts as whole only while files, secrets, units, images and health are what the last run left."""

import base64
import json
import os
import pwd
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import payload, quadlet_plan, quadlet_work, system_transaction, unchanged
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import RenderingAction
from rendered import action
from test_engine_plan import WEB, Host
from test_engine_system import System

PASSWORD = "correct-horse-battery"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


class Place:
    """A host with one part of the service user and one set of system files, both brought there by a run."""

    def __init__(self, directory):
        self.state, self.home = directory / "state", directory / "home"
        self.state.mkdir()
        (self.home / quadlet_plan.QUADLET_DIRECTORY).mkdir(parents=True)
        self.host = Host(self.home)
        self.host.check_manager = lambda: None
        self.host.ask = lambda references, secrets, units: setattr(self.host, "values", self.host.secret_values(sorted(secrets)))
        self.web, self.env, self.etc = self.home / quadlet_plan.QUADLET_DIRECTORY / "web.container", self.home / "config.env", directory / "site.conf"
        common = {"state": "present", "directories": []}
        self.quadlet = {
            **common,
            "component": "web",
            "user": "me",
            "home": str(self.home),
            "files": [
                {"path": str(self.web), "content": encoded(WEB), "mode": "0644", "secret": False},
                {"path": str(self.env), "content": encoded(f"TOKEN={PASSWORD}\n"), "mode": "0600", "secret": True},
            ],
            "secrets": [{"name": "web_password", "value": PASSWORD}],
            "units": [{"name": "web.service"}],
            "preconditions": [],
            "image_input": "",
            "deploy_lock": {"id": "of one run"},
        }
        item = {"path": str(self.etc), "content": encoded("a"), "mode": "0644", "secret": False, "notify": []}
        item.update(owner=str(os.geteuid()), group=str(os.getegid()))
        self.system = {**common, "component": "site", "files": [item], "absent": [], "checks": [], "handlers": {}, "units": ["nginx.service"]}

    def bring(self):
        for path, text, mode in ((self.web, WEB, 0o644), (self.env, f"TOKEN={PASSWORD}\n", 0o600)):
            path.write_text(text)
            path.chmod(mode)
        self.host.secrets["web_password"] = PASSWORD
        transaction = Transaction(payload.quadlet_component(self.quadlet, self.host, False), self.host, True)
        transaction.work.look()
        transaction.work.manifest.started = dict(transaction.work.plan.fingerprints)
        transaction.installation.save_manifest(final=True)
        SystemTransaction(payload.system_component(self.system, False), True).run(check=False)
        for data in (self.quadlet, self.system):
            payload.save_applied(data, str(self.state))
        return self

    def seen(self):
        return unchanged.unchanged_components(str(self.state))


@pytest.fixture
def place(tmp_path, monkeypatch):
    place, system = Place(tmp_path), System()
    for module in (unchanged, quadlet_work, system_transaction):
        monkeypatch.setattr(module, "Manifest", lambda component: Manifest(component, str(place.state)))
    monkeypatch.setattr(system_transaction, "command", system)
    monkeypatch.setattr(system_transaction, "ASIDE", str(tmp_path / "aside"))
    monkeypatch.setattr(quadlet_plan, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(unchanged, "HostSnapshot", lambda name, home: place.host)
    place.commands = system
    return place.bring()


def test_what_a_run_left_is_seen_under_the_digest_of_what_it_handed_over(place):
    assert place.seen() == {"web": payload.digest(place.quadlet), "site": payload.digest(place.system)}


CHANGES = {
    "a file has another text": lambda place: place.web.write_text(WEB + "#"),
    "a file has another mode": lambda place: place.web.chmod(0o600),
    "a file is gone": lambda place: place.web.unlink(),
    "a secret file has another text": lambda place: place.env.write_text("TOKEN=other\n"),
    "a secret has another value": lambda place: place.host.secrets.update(web_password="other"),
    "a secret is gone": lambda place: place.host.secrets.clear(),
    "a unit is down": lambda place: place.host.states.update({"web.service": {"ActiveState": "inactive"}}),
    "a unit is on its way up": lambda place: place.host.states.update({"web.service": {"ActiveState": "activating"}}),
    "a container is unhealthy": lambda place: place.host.ill.add("web"),
    "the tag is another image": lambda place: place.host.images.update({"registry/app:1": "id-other"}),
    "the image is gone": lambda place: place.host.images.clear(),
    "the manifest is gone": lambda place: (place.state / "web.json").unlink(),
    "a run was cut short": lambda place: (place.state / "web.json").write_text(
        json.dumps({**json.loads((place.state / "web.json").read_text()), "unfinished": True})
    ),
    "Podman does not answer": lambda place: setattr(place.host, "ask", lambda *_: (_ for _ in ()).throw(OSError("no bus"))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_is_not_seen_and_the_rest_is(place, what):
    CHANGES[what](place)
    assert set(place.seen()) == {"site"}


def test_system_files_and_units_count_as_well(place):
    place.commands.inactive = ("nginx.service",)
    assert set(place.seen()) == {"web"}
    place.commands.inactive = ()
    place.etc.write_text("b")
    assert set(place.seen()) == {"web"}


def test_no_secret_is_kept(place):
    for name in ("web.last", "site.last"):
        kept = (place.state / name).read_text()
        assert PASSWORD not in kept and encoded(f"TOKEN={PASSWORD}\n") not in kept
        assert (place.state / name).stat().st_mode & 0o777 == 0o600


def test_a_script_that_runs_once_is_kept_without_its_text_and_due_again_when_anything_differs(place):
    data = {
        **place.quadlet,
        "post_start_exec": {"container": "web", "script": f"login {PASSWORD}", "error_prefix": "", "redact": [PASSWORD], "only_on_change": True},
    }
    assert not payload.is_applied(data, str(place.state))
    payload.save_applied(data, str(place.state))
    assert payload.is_applied(data, str(place.state)) and PASSWORD not in (place.state / "web.last").read_text()
    assert place.seen()["web"] == payload.digest(data)
    assert not payload.is_applied({**data, "post_start_exec": {**data["post_start_exec"], "script": "login other"}}, str(place.state))


def test_a_kept_file_that_is_damaged_costs_time_alone(place):
    (place.state / "web.last").write_text("{")
    assert set(place.seen()) == {"site"}


@pytest.mark.parametrize(
    "more",
    [{"post_start_exec": {"script": ""}}, {"secrets": [{"name": "key", "file": "/etc/key"}]}, {"state": "absent"}],
    ids=["script", "key on the host", "absent"],
)
def test_what_a_look_cannot_tell_is_not_kept(place, more):
    payload.save_applied({**place.quadlet, **more}, str(place.state))
    assert set(place.seen()) == {"site"}


class Caller(RenderingAction):
    """Says whether the host was called."""

    def run(self, tmp=None, task_vars=None):
        raise NotImplementedError

    def _execute_module(self, module_name=None, module_args=None, task_vars=None):
        return {"changed": True, "called": module_name}


@pytest.mark.parametrize(
    ("what", "called"),
    [
        ({}, False),
        ({"data": {"image_input": "other"}}, True),
        ({"data": {"deploy_lock": {"id": "a release"}}}, True),
        ({"data": {"post_start_exec": {"script": ""}}}, True),
        ({"moved": "this look"}, True),
        ({"moved": "an older look"}, False),
        ({"seen": {}}, True),
        ({"look": {}}, True),
    ],
    ids=["as seen", "other input", "release", "script", "changed since", "changed in another run", "not seen", "no look"],
)
def test_the_host_is_called_unless_the_look_has_told(place, what, called):
    data = {**place.quadlet, "deploy_lock": {}}
    variables = {
        "senex_host_snapshot": what.get("look", {"id": "this look", "unchanged": what.get("seen", {"web": payload.digest(data)})}),
        "ansible_facts": {"senex_components_changed": what["moved"]} if "moved" in what else {},
    }
    result = action(Caller, {}, variables, place.home).call("apply_quadlet", {**data, **what.get("data", {})}, variables)
    assert ("called" in result) == called
    # From then on nothing that was seen before counts
    assert result.get("ansible_facts") == ({"senex_components_changed": "this look"} if called and what.get("look") != {} else None)


def test_one_of_several_images_that_is_gone_is_no_trouble(monkeypatch):
    def run(self, argv, **_):
        images = [word for word in argv if word.startswith("image-")]
        found = "gone" not in " ".join(images)
        return subprocess.CompletedProcess(argv, 0 if found else 125, "id\n" if found else "", "" if found else "Error: no such image")

    monkeypatch.setattr(ServiceUser, "run", run)
    monkeypatch.setattr(ServiceUser, "secret_values", lambda self, names: {})
    monkeypatch.setattr(ServiceUser, "unhealthy", lambda self: set())
    glance = unchanged.HostSnapshot(pwd.getpwuid(os.getuid()).pw_name, "/")
    glance.ask({"image-1", "image-gone"}, set(), set())
    assert glance.image_ids(["image-1", "image-gone"]) == {"image-1": "id"}
