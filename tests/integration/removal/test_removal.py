"""Everything goes from a host but the data, and the next site.yml goes on with that."""

import json

from stack import HOME, UID

PLAYBOOK = "playbooks/remove.yml"
TRACES = (
    "find /etc /usr/local /var/spool/cron -xdev \\( -iname '*senex*' -o -path '*/sshd_config.d/*' -o -path '/etc/nginx/conf.d/*' \\) -not -path '/etc/.git/*'"
)


def remove(stack, **inputs):
    return stack.play(playbook=PLAYBOOK, tags="all", variables=inputs, timeout=600)


def said(run):
    return " ".join(str(result.get("msg", "")) for _name, result in run.results)


def data(stack):
    """What is in the directories of data, with its owner; not what a server writes when it stops."""
    return set(stack.sh(f"find {HOME}/data -maxdepth 2 -not -name '*.rdb' -printf '%P %U %m\\n'").splitlines())


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
    words = stack.post("/api/rows/", {"text": "before the removal"})
    rows, before = json.loads(stack.get("/api/rows/")[1])["count"], data(stack)
    run = remove(stack, remove_confirm="demo", remove_data="archive").expect()
    figure("removal of everything: wall", run.wall)
    assert stack.ssh("getent passwd senex").returncode and stack.sh(f"ps -eo uid= | grep -cx ' *{UID}' || true").strip() == "0"
    assert stack.sh("systemctl list-units --all --plain --no-legend '*senex*' | grep -v '^user' || true") == ""
    assert stack.sh("systemctl list-timers --all --no-legend '*senex*'") == "" and stack.sh(
        f"test ! -e /var/lib/systemd/linger/senex; ls /run/user/{UID} 2>&1 || true"
    )
    assert stack.ssh("systemctl is-active nginx").stdout.strip() != "active"
    assert stack.sh(TRACES) == "", "nothing of ours is left in /etc and /usr/local"
    assert "senex" not in stack.sh("ufw show added | grep -v '22/tcp' || true")
    assert data(stack) == before and f"data: {HOME}/data" in said(run)
    (archive,) = stack.sh("ls /var/backups/senex-trader-*.tar").split()
    assert "data/postgres/pgdata/PG_VERSION" in (listed := stack.sh(f"tar -tf {archive}")) or "data/postgres/PG_VERSION" in listed
    assert stack.sh(f"stat -c '%a %U' {archive}").split() == ["600", "root"]
    again = remove(stack, remove_confirm="demo").expect()
    assert again.changed == [] or "Nothing of the collection is here" in said(again)
    back = stack.play(timeout=900).expect()
    figure("site.yml after a removal, with the data from before: wall", back.wall)
    stack.ready(120)
    assert json.loads(stack.get("/api/rows/")[1])["count"] == rows and words
    assert data(stack) >= before
    stack.task_runs()
    assert stack.play().expect().changed == []


def test_data_that_is_set_aside_is_found_under_another_name(stack):
    remove(stack, remove_confirm="demo", remove_data="aside").expect()
    (place,) = stack.sh(f"ls -d {HOME}.removed-*").split()
    assert stack.sh(f"ls {place}/data/postgres") and stack.ssh(f"test -e {HOME}").returncode
