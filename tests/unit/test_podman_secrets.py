"""Secrets through Podman of either kind: 4.9 takes --replace of a secret that is not there for an error, 5 does not."""

import os
import pwd

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import service_user
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser

# What both say and how they end, as seen on hosts
PODMAN = """#!/bin/sh
cd {directory} || exit 99
[ "$1 $2" = "secret create" ] || exit 98
shift 2
replace=
[ "$1" != --replace ] || {{ replace=yes; shift; }}
echo "$replace create $1" >>log
[ ! -e full ] || {{ echo "Error: no space left on device" >&2; exit 125; }}
if [ -e "secret-$1" ] && [ -z "$replace" ]; then
    echo "Error: creating secret: $1: secret name in use" >&2; exit 125
elif [ ! -e "secret-$1" ] && [ -n "$replace" ] && [ {version} = 4 ]; then
    echo "Error: deleting secret : : no secret data with ID" >&2; exit 125
fi
cat >"secret-$1"
"""


@pytest.fixture(params=[4, 5])
def user(request, tmp_path, monkeypatch):
    program = tmp_path / "podman"
    program.write_text(PODMAN.format(directory=tmp_path, version=request.param))
    program.chmod(0o755)
    monkeypatch.setattr(service_user, "PODMAN", str(program))
    return ServiceUser(pwd.getpwuid(os.getuid()).pw_name, str(tmp_path))


def test_a_secret_is_made_and_then_replaced(user, tmp_path):
    user.set_secret("redis_password", "one")
    assert (tmp_path / "secret-redis_password").read_text() == "one"
    user.set_secret("redis_password", "two")
    assert (tmp_path / "secret-redis_password").read_text() == "two"


def test_another_trouble_is_told_and_not_tried_again(user, tmp_path):
    (tmp_path / "full").touch()
    with pytest.raises(CommandError, match="no space left on device") as refused:
        user.set_secret("redis_password", "hunter2hunter2")
    assert (tmp_path / "log").read_text().count("create") == 1 and "hunter2" not in str(refused.value)
