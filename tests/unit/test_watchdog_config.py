"""The watchdog's configuration file: what is wrong is named by its key."""

import json

import pytest
from watched import SETTINGS, config

WRONG = [
    ({"prob": {}}, "prob: no such key; known here are host, environment"),
    ({"probe": {"interval": "5"}}, "probe.interval: '5' is not a number (seconds)"),
    ({"probe": {"interval": 0}}, "probe.interval: 0 seconds is too little; it must be 1 or more"),
    ({"probe": {"failures": True}}, "probe.failures: True is not a whole number"),
    ({"disks": "/"}, "disks: '/' is no list"),
    ({"disks": [1]}, "disks[0]: 1 is not text"),
    ({"web": {"domain": "x"}}, "web.instances: is missing"),
    (
        {"web": {"domain": "x", "instances": [{"unit": "a", "address": "b", "port": "80"}]}},
        "web.instances[0].port: '80' is not a whole number",
    ),
    (
        {"notify": {"mail": {"to": ["a@b"], "sender": "c@d", "host": "h", "security": "ssl"}}},
        "notify.mail.security: 'ssl' is unknown; it must be one of starttls",
    ),
    ({"probe": []}, "probe: [] is no set of keys"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_what_does_not_fit_is_named_by_its_key(change, says):
    with pytest.raises(config.ConfigError) as error:
        config.build(config.Config, {**SETTINGS, **change})
    assert str(error.value).startswith(says)


def test_what_fits_is_taken_with_defaults(tmp_path):
    path = tmp_path / "watchdog.json"
    path.write_text(json.dumps({**SETTINGS, "probe": {"interval": 7}, "web": None}))
    found = config.read(str(path))
    assert (found.probe.interval, found.probe.failures, found.web, found.public.port) == (7.0, 3, None, 443)


@pytest.mark.parametrize(("text", "says"), [("{", "line 1 is no JSON"), ("{}", "host: is missing")])
def test_the_file_is_named(tmp_path, text, says):
    path = tmp_path / "watchdog.json"
    path.write_text(text)
    with pytest.raises(config.ConfigError, match=f"{path}: {says}"):
        config.read(str(path))


def test_a_missing_file_is_named():
    with pytest.raises(config.ConfigError, match="/nowhere/x.json: cannot be read: No such file"):
        config.read("/nowhere/x.json")
