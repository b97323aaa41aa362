"""The engine on a real host, with a toy part: what restarts, what is refused, what comes back."""

import json
import subprocess
import time

import pytest
import yaml
from own_host import KEPT
from stack import AS_USER, HOME, ROOT, Play, environment

IMAGE = "registry.senex.test:5000/library/redis:7"
SECRET = 's3cr3t-"é$%= x'
UNIT = """\
[Unit]
Description=Toy {{ number }}
[Container]
Image={{ toy_image }}
ContainerName=toy-{{ number }}
Pull=never
{{ toy_key }}
Exec=sh -c "trap 'exit 0' TERM; echo saying $$TOY; touch /tmp/ok; sleep infinity & wait"
EnvironmentFile=%h/config/toy/env
{% if number == 1 %}
Volume=%h/config/toy/page:/srv/page:ro
Secret=toy_secret,type=mount,mode=0400
{% endif %}
HealthCmd={{ toy_health }}
HealthInterval=10s
HealthStartupCmd={{ toy_health }}
HealthStartupInterval=1s
[Service]
Restart=always
RestartSec=2
TimeoutStartSec=15
ExecStartPost=/usr/bin/podman wait --condition=healthy toy-{{ number }}
[Install]
WantedBy=default.target
"""
ARGUMENTS = {
    "component": "{{ toy_part }}",
    "state": "{{ toy_state }}",
    "user": "senex",
    "home": HOME,
    "image_input": "toy_image",
    "directories": [{"path": "data/toy", "mode": "0700", "container_user": 999}],
    "files": [
        {"src": "toy.container.j2", "dest": "toy-1.container", "vars": {"number": 1}},
        {"src": "toy.container.j2", "dest": "toy-2.container", "vars": {"number": 2}, "when": "{{ toy_two }}"},
        {"content": "{{ toy_page }}", "dest": "config/toy/page"},
        {"content": "TOY={{ toy_secret }}\n", "dest": "config/toy/env", "secret": True},
    ],
    "secrets": [{"name": "toy_secret", "value": "{{ toy_secret }}"}],
    "units": "{{ [{'name': 'toy-1.service'}] + ([{'name': 'toy-2.service'}] if toy_two else []) }}",
}
DEFAULTS = {
    "toy_part": "toy", "toy_state": "present", "toy_image": IMAGE, "toy_health": "test -f /tmp/ok", "toy_page": "hello\n",
    "toy_secret": SECRET, "toy_two": True, "toy_key": "NoNewPrivileges=true",
}  # fmt: skip
BOTH = ["toy-1.service", "toy-2.service"]


class Toy:
    def __init__(self, stack, place):
        self.stack, self.book = stack, place / "play.yml"
        self.placed = False  # whether the host is as the defaults have it
        (place / "templates").mkdir()
        (place / "templates" / "toy.container.j2").write_text(UNIT)
        tasks = [{"name": "Toy", "senex.trader.quadlet": ARGUMENTS}]
        self.book.write_text(yaml.safe_dump([{"name": "Toy", "hosts": "demo", "gather_facts": False, "vars": DEFAULTS, "tasks": tasks}]))

    def command(self, *options, **variables):
        extra = json.dumps({"ansible_host": self.stack.address, **variables})
        return ["ansible-playbook", str(self.book), "-i", f"{ROOT}/inventory/demo", "-e", extra, *options]

    def play(self, *options, **variables):
        done = subprocess.run(self.command(*options, **variables), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=180, check=False)  # fmt: skip
        if "--check" not in options:
            self.placed = done.returncode == 0 and not variables
        return Play(done.returncode, done.stdout, 0)

    def starts(self):
        text = self.stack.sh(f"{AS_USER} systemctl --user show --property=ActiveState,ActiveEnterTimestampMonotonic {' '.join(BOTH)}")
        return text

    def seen(self):
        """Files, secrets and starts: all that may change."""
        return {path: digest for path, digest in self.stack.files().items() if "toy" in path or "secrets" not in path}, self.starts()

    def secret(self):
        return self.stack.user("podman", "secret", "inspect", "--showsecret", "--format", "{{.SecretData}}", "toy_secret").rstrip("\n")


@pytest.fixture(scope="module")
def toy(stack, tmp_path_factory):
    found = Toy(stack, tmp_path_factory.mktemp("toy"))
    yield found
    if KEPT:
        for part in ("toy", "toy-other"):
            found.play(toy_part=part, toy_state="absent")
        stack.sh(f"{AS_USER} podman unshare rm -rf {HOME}/data/toy; rm -rf {HOME}/config/toy")


@pytest.fixture
def placed(toy):
    if not toy.placed:
        toy.play().expect()
    return toy


def test_installed_then_nothing_to_do(toy):
    toy.play().expect()
    assert "active" in toy.starts() and toy.secret() == SECRET
    assert toy.stack.sh(f"stat -c '%u %a' {HOME}/data/toy").split() == ["200998", "700"]
    assert toy.stack.sh(f"stat -c '%U %a' {HOME}/config/toy/env").split() == ["senex", "600"]
    before = toy.seen()
    assert toy.play().expect().changed == [] and toy.seen() == before


@pytest.mark.parametrize(
    ("change", "restarted"),
    [({"toy_page": "other\n"}, BOTH[:1]), ({"toy_secret": "another secret $"}, BOTH), ({"toy_key": "Environment=MORE=1"}, BOTH)],
    ids=["a file of one", "a secret of both", "both units"],
)
def test_readers_restart_one_after_the_other(placed, change, restarted):
    play = placed.play("--diff", **change).expect()
    assert play.restarts() == restarted
    assert change.get("toy_secret", SECRET) not in play.output and SECRET not in play.output
    stamps = [int(line.split("=")[1]) for line in placed.starts().splitlines() if line.startswith("ActiveEnter")]
    assert restarted == BOTH[:1] or stamps[0] < stamps[1]


def test_check_mode_says_it_and_touches_nothing(placed):
    before = placed.seen()
    play = placed.play("--check", "--diff", "-vvv", toy_page="other\n", toy_secret="another-secret").expect()
    assert play.changed == ["Toy"] and play.restarts() == BOTH and "another-secret" not in play.output and SECRET not in play.output
    assert any(change.get("after") == "other\n" for change in play.shown)
    assert placed.seen() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"toy_key": "Memory=1G"}, ["toy-1.container", "Memory=", "MemoryMax=", "nothing was changed"]),
        ({"toy_key": "Network=missing.network"}, ["missing.network", "nothing was changed"]),
        ({"toy_image": "registry.senex.test:5000/library/redis:none"}, ["toy_image", "redis:none", "nothing was changed"]),
    ],
    ids=["a key", "the generator", "an image"],
)
def test_refused_before_anything_changes(placed, change, words):
    before = placed.seen()
    play = placed.play(toy_page="other\n", **change)
    assert play.code != 0 and placed.seen() == before
    placed.placed = True
    assert [word for word in words if word not in play.errors[0]] == [], play.errors


def test_health_that_never_comes_puts_the_old_back(placed):
    files, _ = placed.seen()
    play = placed.play(toy_health="test -f /tmp/never", toy_secret="another-secret")
    assert play.code != 0 and "toy-1.service did not come up" in play.errors[0] and "running again: toy-1.service" in play.errors[0]
    assert "Last lines of toy-1.service" in play.errors[0] and "another-secret" not in play.output
    now, starts = placed.seen()
    assert {path for path in files if files[path] != now.get(path)} <= {path for path in files if "secrets" in path}
    assert starts.count("ActiveState=active") == 2 and placed.secret() == SECRET
    assert placed.play().expect().changed == []


def test_a_run_that_is_killed_is_finished_by_the_next(placed):
    placed.placed = False
    process = subprocess.Popen(placed.command(toy_page="killed\n", toy_health="test -f /tmp/never"), cwd=ROOT, env=environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    manifest = "/var/lib/senex.trader/toy.json"
    deadline = time.monotonic() + 60
    while "unfinished" not in placed.stack.sh(f"cat {manifest}"):
        assert time.monotonic() < deadline and process.poll() is None, "the run did not get so far"
    # The process that holds the engine's lock is the one at work
    holder = 'awk -v i=":$(stat -c %i /var/lib/senex.trader/lock)" \'$6 ~ i"$" {print $5}\' /proc/locks'
    placed.stack.sh(f"kill -KILL $({holder})")
    process.kill()
    process.wait()
    play = placed.play().expect()
    assert any("finish what" in line for line in play.plan)
    assert placed.starts().count("ActiveState=active") == 2 and placed.play().expect().changed == []


def test_a_unit_that_is_taken_away_is_stopped_and_gone(placed):
    play = placed.play(toy_two=False).expect()
    assert "stop toy-2.service" in play.plan and play.restarts() == []
    assert placed.stack.ssh(f"{AS_USER} podman container exists toy-2").returncode == 1
    assert "toy-2" not in placed.stack.sh(f"ls {HOME}/.config/containers/systemd")


@pytest.mark.faults
def test_a_file_of_two_parts_stays_while_one_has_it_and_data_always(placed):
    placed.play(toy_part="toy-other").expect()
    placed.play(toy_part="toy-other", toy_state="absent").expect()
    assert placed.stack.ssh(f"test -e {HOME}/config/toy/env && test -e {HOME}/config/toy/page").returncode == 0 and placed.secret() == SECRET
    placed.play().expect()
    placed.stack.sh(f"touch {HOME}/data/toy/rows")
    placed.play(toy_state="absent").expect()
    assert placed.stack.sh(f"ls {HOME}/data/toy {HOME}/config/toy").split() == [f"{HOME}/config/toy:", f"{HOME}/data/toy:", "rows"]
    assert placed.stack.ssh(f"{AS_USER} podman ps -a --format '{{{{.Names}}}}' | grep toy").returncode == 1
    assert placed.play(toy_state="absent").expect().changed == []
