"""Everything goes from a host but the data, and the next site.yml goes on with that."""

import contextlib
import json
import re
import subprocess

import pytest
from stack import HOME, UID

pytestmark = pytest.mark.faults

PLAYBOOK = "playbooks/remove.yml"
TRACES = (
    "find /etc /usr/local /var/spool/cron -xdev \\( -iname '*senex*' -o -path '*/sshd_config.d/*' -o -path '/etc/nginx/conf.d/*' \\) -not -name 'senex-lab*'"
)


def remove(stack, **inputs):
    return stack.play(playbook=PLAYBOOK, tags="all", variables=inputs, timeout=600)


def said(run):
    return " ".join(str(result.get("msg", "")) for _name, result in run.results)


@contextlib.contextmanager
def killed_at_archive(stack):
    """The removal's program on the host is killed while it writes the archive."""
    script = "for i in $(seq 60000); do if p=$(pgrep -xo tar); then kill -KILL $(ps -o ppid= -p $p) && echo killed; break; fi; sleep 0.005; done"
    watching = subprocess.Popen(stack.ssh_command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        yield
        assert watching.communicate(timeout=30)[0].strip() == "killed", "no archive was being written"
    finally:
        watching.kill()


def kept(stack, home=HOME):
    """What is in the directories of data and backups, with its owner, and the content of each backup; not what a server or a job writes when it stops."""
    passing = "-not -path '*/status*' -not -name '*.rdb' -not -name '*.lock' -not -name postmaster.pid -not -name '.senex-made-below'"
    there = stack.sh(f"cd {home}; find data backups -maxdepth 2 {passing} -printf '%p %U %m\\n'; find backups/barman -name '*.info' -printf '%p %U %m\\n'")
    sums = stack.sh(f"cd {home}; find backups/postgresql backups/redis data/media -type f -exec sha256sum {{}} + 2>/dev/null || true")
    assert "data/postgres" in there and "backups/postgresql/" in sums and "backups/redis/" in sums and "data/media/" in sums
    return {*there.splitlines(), *sums.splitlines()}


def test_the_plan_changes_nothing(stack):
    before = stack.files(), stack.starts()
    run = remove(stack).expect()
    assert run.changed == [] and (stack.files(), stack.starts()) == before
    for words in ("goes: ", "postgresql", "goes: user senex with ", f"stays: {HOME}/data, ", "rule of the firewall: ", "-e remove_confirm=demo"):
        assert words in said(run), words


def test_another_environments_name_is_refused(stack):
    starts = stack.starts()
    run = remove(stack, remove_confirm="production")
    assert run.code != 0 and run.changed == [] and stack.moved(starts) == []
    assert "remove_confirm: production is not the name of this environment; write demo" in run.errors[0]


def test_everything_goes_but_the_data_and_comes_back_with_it(stack, figure):
    """Also when it is killed while it writes the archive, and run again."""
    stack.post("/api/rows/", {"text": "before the removal"})
    stack.user("systemctl", "--user", "start", "backup-dump.service", "backup-redis.service")
    stack.sh(f"setpriv --reuid=200999 --regid=200999 --clear-groups touch {HOME}/data/media/upload.txt")
    rows, before = json.loads(stack.get("/api/rows/")[1])["count"], kept(stack)
    with killed_at_archive(stack):
        assert remove(stack, remove_confirm="demo", remove_data="archive").code != 0
    assert before <= kept(stack) and stack.sh("ls /var/backups/senex-trader-*.tar 2>/dev/null || true") == ""
    run = remove(stack, remove_confirm="demo", remove_data="archive").expect()
    figure("removal of everything, after one that was killed: wall", run.wall)
    assert stack.ssh("getent passwd senex").returncode and stack.sh(f"ps -eo uid= | grep -cx ' *{UID}' || true").strip() == "0"
    assert stack.sh("systemctl list-units --all --plain --no-legend '*senex*' | grep -v '^user' || true") == ""
    assert stack.sh("systemctl list-timers --all --no-legend '*senex*'") == ""
    assert stack.ssh("test -e /var/lib/systemd/linger/senex").returncode
    assert stack.ssh("systemctl is-active nginx").stdout.strip() != "active"
    assert stack.sh(TRACES) == "", "nothing of ours is left in /etc and /usr/local"
    assert "senex" not in stack.sh("ufw show added | grep -v '22/tcp' || true")
    assert before <= kept(stack) and f"data: {HOME}/data" in said(run)
    (archive,) = stack.sh("ls /var/backups/senex-trader*").split()
    listed = {entry.rstrip("/") for entry in stack.sh(f"tar -tf {archive}").splitlines()}
    assert {found.group(1) for line in before if (found := re.fullmatch(r"(\S+) \d+ \d+", line))} <= listed
    assert stack.sh(f"stat -c '%a %U' {archive}").split() == ["600", "root"]
    again = remove(stack, remove_confirm="demo").expect()
    assert "Nothing of the collection is here" in said(again)
    back = stack.play(timeout=900).expect()
    figure("site.yml after a removal, with the data from before: wall", back.wall)
    stack.ready(120)
    assert json.loads(stack.get("/api/rows/")[1])["count"] == rows
    assert before <= kept(stack)
    stack.task_runs()
    assert stack.play().expect().changed == []


def test_data_that_is_set_aside_is_found_under_another_name(stack):
    """Also when all else is gone already: after a run that was killed behind the account, or one that was to keep it."""
    before = kept(stack)
    remove(stack, remove_confirm="demo").expect()
    remove(stack, remove_confirm="demo", remove_data="aside").expect()
    (place,) = stack.sh(f"ls -d {HOME}.removed-*").split()
    assert before <= kept(stack, place) and stack.ssh(f"test -e {HOME}").returncode
