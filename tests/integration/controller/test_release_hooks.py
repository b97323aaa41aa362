"""The operator's own tasks around a release: where they run, what they know, and what becomes of the release where they fail."""

import pytest
from simulated import Hosts
from test_operations_unreachable import NEW, OLD, THREE

SECRET = "of-a-hook-8231"
# Into the log in which all else is that happens on hosts
TOLD = """- name: Write it down
  ansible.builtin.shell: echo "$(basename $STUB_AT) WHAT {{{{ release_kind }}}} {{{{ release_previous.tag }}}} {{{{ release_tag }}}} {more}" >> $STUB_AT/../log
  changed_when: true
"""
AFTER = TOLD.format(more="{{ release_result }}")
FAILS = f"""- name: Tell somebody
  ansible.builtin.command:
    argv: [sh, -c, "echo {SECRET} >&2; exit 4"]
  changed_when: true
  no_log: true
"""


@pytest.fixture
def hosts(tmp_path):
    return Hosts(tmp_path, THREE)


def hooks(hosts, **texts):
    """Words of a run with such files: pre_deploy, post_deploy, post_failure."""
    words = []
    for name, text in texts.items():
        path = hosts.home / f"{name}.yml"
        path.write_text(text.replace("WHAT", name))
        words += ["-e", f"release_{name}_tasks={path}"]
    return words


def told(hosts, name):
    return [line for line in hosts.log_of_points() if f" {name} " in line]


@pytest.mark.faults
def test_they_run_once_and_in_their_places(hosts):
    words = hooks(hosts, pre_deploy=TOLD.format(more=""), post_deploy=AFTER, post_failure=AFTER)
    assert hosts.deploy("2", *words).returncode == 0, hosts.said
    log = hosts.log_of_points()
    assert [told(hosts, "pre_deploy"), told(hosts, "post_deploy"), told(hosts, "post_failure")] == [
        ["one pre_deploy deploy 1 2 "], ["one post_deploy deploy 1 2 succeeded"], [],
    ], log  # fmt: skip
    assert log.index("one plan") < log.index("one pre_deploy deploy 1 2 ") < log.index("data dump"), log
    assert log.index("one prober stops") < log.index("one post_deploy deploy 1 2 succeeded") == len(log) - 1, log
    assert hosts.deploy("2", *words, "-e", "senex_image_tag=2").returncode == 0 and "runs already everywhere" in hosts.said, hosts.said
    assert len(told(hosts, "pre_deploy") + told(hosts, "post_deploy")) == 2, "nothing was changed, so there is nothing to do before or after it"


def test_one_that_fails_before_leaves_all_as_it_is(hosts):
    assert hosts.deploy("2", *hooks(hosts, pre_deploy=FAILS, post_deploy=AFTER, post_failure=AFTER)).returncode != 0
    assert hosts.runs() == OLD and hosts.runs("celery") == {"work": "1"} and hosts.locked() == []
    assert all(results == ["refused"] for results in hosts.results().values()), hosts.said
    assert "data dump" not in hosts.log_of_points() and not (hosts.place / "one/prober").exists()
    assert told(hosts, "post_failure") == ["one post_failure deploy 1 2 refused"] and told(hosts, "post_deploy") == []
    assert "one, pre_deploy: Tell somebody failed (no_log)" in hosts.said and "serves, as before. The lock is released." in hosts.said, hosts.said
    kept = [(hosts.place / host / "releases.jsonl").read_text() for host in hosts.names]
    assert SECRET not in hosts.said + "".join(kept)


@pytest.mark.faults
def test_one_that_fails_afterwards_is_told_and_undoes_nothing(hosts):
    assert hosts.deploy("2", *hooks(hosts, post_deploy=FAILS, post_failure=AFTER)).returncode != 0
    assert hosts.runs() == NEW and hosts.runs("celery") == {"work": "2"} and hosts.locked() == []
    assert all(results == ["succeeded"] for results in hosts.results().values()), hosts.results()
    assert "and it serves; release_post_deploy_tasks failed." in hosts.said and "release_post_deploy_tasks: one: Tell somebody failed (no_log)" in hosts.said
    assert told(hosts, "post_failure") == [] and SECRET not in hosts.said


@pytest.mark.faults
def test_on_all_hosts_also_after_a_failure(hosts):
    hosts.trip("two", "django 2", "fail")
    words = hooks(hosts, pre_deploy=TOLD.format(more=""), post_failure=AFTER)
    assert hosts.deploy("2", *words, "-e", "release_hooks_on=all").returncode != 0
    assert hosts.runs() == OLD and all(results == ["switched back"] for results in hosts.results().values()), hosts.said
    assert sorted(told(hosts, "pre_deploy")) == sorted(f"{host} pre_deploy deploy 1 2 " for host in hosts.names)
    assert sorted(told(hosts, "post_failure")) == sorted(f"{host} post_failure deploy 1 2 switched back" for host in hosts.names)


@pytest.mark.parametrize("text", ["- name: It\n  ansible.builtin.no_such_module: {}\n", "- name: It\n  ansible.builtin.debug: [\n"])
def test_what_ansible_cannot_read_is_refused_before_the_lock(hosts, text):
    """In the middle of a release it would end the run, with the lock and the newer image where they are."""
    assert hosts.deploy("2", *hooks(hosts, post_deploy=text)).returncode != 0
    assert hosts.log_of_points() == [] and hosts.locked() == [] and hosts.runs() == OLD, hosts.said
