"""The controller's half: templates with the collection's macros, and what is said no to before anything leaves."""

import base64
import json

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.senex.trader.plugins.action.quadlet import ActionModule, path_of
from rendered import Renderer, action


@pytest.fixture
def role(tmp_path):
    for directory in ("templates", "files"):
        (tmp_path / directory).mkdir()
    (tmp_path / "templates" / "x.container.j2").write_text(
        "{% import 'quadlet.j2' as quadlet %}\n[Container]\n{{ quadlet.stop_timeout(seconds) }}\n{% if false %}\nnot here\n{% endif %}\nName={{ name }} \\n\n"
    )
    (tmp_path / "files" / "raw.bin").write_bytes(b"\xff\x00 {{ name }}\n")
    return tmp_path


def rendered(role, *files, **variables):
    plugin = action(Renderer, {}, variables, role)
    found = plugin.rendered(list(files), variables)
    return {item["dest"]: base64.b64decode(item["content"]) for item in found}


def test_a_template_imports_what_roles_share(role):
    found = rendered(role, {"src": "x.container.j2", "vars": {"name": "a"}}, {"src": "x.container.j2", "dest": "y.container"}, seconds=7, name="b")
    assert found == {
        "x.container": b"[Container]\nPodmanArgs=--stop-timeout=7\n\nName=a \\n\n",
        "y.container": b"[Container]\nPodmanArgs=--stop-timeout=7\n\nName=b \\n\n",
    }


def test_a_file_that_is_no_template_arrives_as_it_is(role):
    assert rendered(role, {"src": "raw.bin", "dest": "x"}) == {"x": b"\xff\x00 {{ name }}\n"}


def test_given_content_is_not_a_template(role):
    assert rendered(role, {"content": "p{{ 1 }}ss é", "dest": "x"}) == {"x": "p{{ 1 }}ss é".encode()}


@pytest.mark.parametrize(("when", "there"), [(True, 1), (False, 0), ("True", 1), ("false", 0), ("no", 0), (" yes\n", 1), (None, None), ("maybe", None)])
def test_when(role, when, there):
    if there is None:
        with pytest.raises(AnsibleActionFail, match="neither true nor false"):
            rendered(role, {"content": "", "dest": "x", "when": when})
    else:
        assert len(rendered(role, {"content": "", "dest": "x", "when": when})) == there


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([{"content": "", "dest": "x", "mdoe": "0600"}], "files: unknown key mdoe in x"),
        ([{"dest": "x"}], "either src .* or content"),
        ([{"content": "", "dest": "x"}, {"content": "", "dest": "x"}], "x is there twice"),
        ([{"content": "", "dest": "x", "mode": 420}], "mode 420 of x must be text"),
        ([{"content": "", "dest": "x", "mode": "u+x"}], "must be text such as"),
    ],
)
def test_what_would_be_passed_over_in_silence_is_an_error(role, files, message):
    with pytest.raises(AnsibleActionFail, match=message):
        rendered(role, *files)


def test_a_template_error_names_the_template(role):
    with pytest.raises(AnsibleActionFail, match="x.container.j2.*seconds"):
        rendered(role, {"src": "x.container.j2"})


@pytest.mark.parametrize(
    ("dest", "path"),
    [
        ("web.container", "/h/.config/containers/systemd/web.container"),
        ("x.network", "/h/.config/containers/systemd/x.network"),
        ("x.timer", "/h/.config/systemd/user/x.timer"),
        ("web.target", "/h/.config/systemd/user/web.target"),
        ("config/x.service", "/h/config/x.service"),
        ("/srv/x.timer", "/srv/x.timer"),
        (".config/x", "/h/.config/x"),
    ],
)
def test_where_a_file_goes(dest, path):
    assert path_of(dest, "/h") == path


def call(role, **arguments):
    plugin = action(ActionModule, {"component": "p", "user": "u", "home": "/h/", **arguments}, {}, role)
    sent = {}
    plugin._execute_module = lambda module_name, module_args, task_vars: sent.update(module_args, name=module_name) or {"invocation": module_args}
    return plugin.run(task_vars={}), sent


def test_one_call_carries_everything_and_shows_nothing(role):
    result, sent = call(role, files=[{"content": "s3cret", "dest": "config/x", "secret": True}], secrets=[{"name": "n", "value": "s3cret"}])
    assert set(sent) == {"payload", "name", "run"} and "s3cret" not in str(sent) and "invocation" not in result
    data = json.loads(base64.b64decode(sent["payload"]))
    assert data["home"] == "/h" and data["files"][0]["path"] == "/h/config/x" and data["files"][0]["mode"] == "0600"


def test_a_part_that_is_held_goes_nowhere_until_another_takes_it_along(role):
    rendered, sent = call(role, render_only=True, secrets=[{"name": "n", "value": "s3cret"}])
    assert sent == {} and not rendered["changed"] and rendered["_ansible_no_log"] and "s3cret" not in str(rendered)
    _, usual = call(role, secrets=[{"name": "n", "value": "s3cret"}])
    _, sent = call(role, concurrent_components=[rendered["rendered_component"]])
    assert sent["concurrent_components"] == [usual["payload"]]


def test_absent_carries_nothing(role):
    _, sent = call(role, state="absent", files=[{"content": "", "dest": "x"}], units=[{"name": "x"}], secrets=[{"name": "n", "value": "v"}])
    data = json.loads(base64.b64decode(sent["payload"]))
    assert [data[key] for key in ("files", "units", "secrets", "directories", "preconditions")] == [[]] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stat": "absent"}, "unknown argument stat"),
        ({"state": "gone"}, "present or absent, not 'gone'"),
        ({"units": [{"name": "x", "run_once": 1}]}, "units: unknown key run_once in x"),
        ({"directories": [{"path": "x", "owner_": 1}]}, "directories: unknown key"),
        ({"directories": [{"path": "x", "mode": 493}]}, "must be text"),
    ],
)
def test_arguments_that_mean_nothing_are_errors(role, arguments, message):
    with pytest.raises(AnsibleActionFail, match=message):
        call(role, **arguments)
