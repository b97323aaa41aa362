"""docs/operations/runbook.md, followed as it stands: the thing is broken, the page's commands are typed in their order, and what was broken works.

The watchdog is paused, for it would be faster with some, and whoever is called is called where it has given up.
"""

import json
import re
import shlex
import subprocess
import time

import page
import pytest
from releases import SETTINGS, deploy, versions
from stack import AS_USER, HOME, LAB, ROOT, UID, environment, failures, wait

pytestmark = pytest.mark.faults
USER = f"{AS_USER} systemctl --user"
SEEN = {"senex status": (0, 2), "senex doctor": (0, 2), "senex redis check": (2,)}  # while something is broken they say so
MINUTES = 10


class Call:
    """Somebody with the page, a shell on the server and one on the control machine."""

    def __init__(self, stack, title):
        self.stack, self.left = stack, list(page.situations()[title])

    def type(self, answer="", **words):
        """The next command of the row, with its words in capitals filled in, and what is answered where it asks: what it printed."""
        command = self.left.pop(0)
        for name, value in words.items():
            assert name in command, f"{command} has no {name}"
            command = command.replace(name, value)
        began = time.monotonic()
        answered = f"echo {answer} | {command}" if answer else command
        done = self.control(command) if command.startswith("ansible-playbook ") else self.stack.ssh(answered, timeout=60 * MINUTES)
        print(f"$ {command}   # {time.monotonic() - began:.1f} s, exit {done.returncode}\n{done.stdout}{done.stderr}")
        assert done.returncode in SEEN.get(command, (0,)), f"exit {done.returncode} from {command}: {done.stdout[-3000:]}{done.stderr}"
        return done.stdout + done.stderr

    def control(self, command):
        """On the control machine, with this host in the place of production."""
        inventory = ROOT / "inventory/demo"
        words = shlex.split(command.replace("inventory/production", str(inventory)))
        variables = json.dumps({"ansible_host": self.stack.address, **SETTINGS})
        plain = {**environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
        return subprocess.run([*words, "-e", variables], cwd=ROOT, env=plain, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60 * MINUTES, check=False)  # fmt: skip


def situation(title):
    """The test of a row."""
    return pytest.mark.parametrize("call", [title], indirect=True, ids=[""])


@pytest.fixture
def call(request, stack):
    """The row; all of it was typed in the end, and the stack is well."""
    stack.sh("senex watchdog pause 2h")
    made = Call(stack, request.param)
    yield made
    if not getattr(request.node, "failed", False):
        assert made.left == []
        stack.ready()
    stack.sh("senex watchdog resume")


@situation("The site answers 502")
def test_instances_down(stack, call):
    stack.sh(f"{USER} stop web-1.service web-2.service")
    assert stack.get("/version/")[0] == 502
    assert "senex restart web-1" in call.type()
    call.type()
    assert call.type().count("ready") == 2
    assert stack.get("/version/")[0] == 200


@situation("The site answers 502")
def test_instances_hung(stack, call):
    stack.sh(f"kill -STOP {stack.main_pid('web-1')} {stack.main_pid('web-2')}")
    assert "web web-2" in call.type()
    call.type()
    call.type()
    assert stack.get("/version/")[0] == 200


@situation("The site does not answer at all")
def test_nginx_down(stack, call):
    stack.sh("systemctl stop nginx.service")
    with pytest.raises(OSError):
        stack.get("/version/")
    said = call.type()
    assert "nginx -t" in said and "unit nginx.service" in said
    assert "successful" in call.type()
    assert "nginx.service: ready" in call.type()
    assert stack.get("/version/")[0] == 200


@situation("The site is slow")
def test_a_session_that_holds_others_up(stack, call):
    """Idle in a transaction, so that there is no statement to cancel."""
    holder = "(echo 'begin; lock table probe_row;'; sleep 900) | senex psql"
    stack.sh(f"systemd-run --quiet --collect --unit=oncall-holder sh -c {shlex.quote(holder)}")
    try:
        locked = "select count(*) from pg_locks where relation = 'probe_row'::regclass and mode = 'AccessExclusiveLock' and granted"
        wait(lambda: stack.sh(f'senex psql -Atc "{locked}"').strip() == "1", 30, "the lock")
        with pytest.raises(OSError):
            stack.request("POST", "/api/rows/", {}, timeout=5)
        said = call.type()
        found = re.search(r"^(\d+) holds others up; (.+) ends it", said, re.MULTILINE)
        assert "web-1" in said and "idle in transaction" in said
        assert found[2] == call.left[0].replace("PID", found[1]), "what is printed is not what the page says"
        call.type(PID=found[1])
        assert stack.request("POST", "/api/rows/", {}, timeout=5)[0] == 201
        call.type()
    finally:
        stack.ssh("systemctl stop oncall-holder.service")


# The home on a file system of its own that has 500 MB left: to fill the test machine's would fill everybody's
SMALL = f"""
set -e
systemctl stop user@{UID}.service
mkdir -p /mnt/small
mount -t tmpfs -o mode=755,size=$(( $(du -sm {HOME} | cut -f1) + 500 ))m small /mnt/small
cp -a {HOME}/. /mnt/small
chown --reference={HOME} /mnt/small
mount --bind /mnt/small {HOME}
systemctl start user@{UID}.service
"""
LARGE = f"""
set -e
systemctl stop user@{UID}.service
umount {HOME}
umount /mnt/small
systemctl start user@{UID}.service
"""
FILL = """
set -e
cd /tmp && mkdir -p oncall && cd oncall
for number in 1 2; do
    head -c 100M /dev/urandom >fat
    printf 'FROM scratch\nADD fat /\n' >Containerfile
    podman build -q --isolation=chroot -t $1:old-$number . >/dev/null
done
cd / && rm -r /tmp/oncall
head -c 10G /dev/zero >$HOME/backups/forgotten 2>/dev/null || true
"""


@pytest.fixture
def small_disk(stack):
    """See SMALL."""
    stack.sh("senex prune-images --keep 9")  # as its timer does each day
    stack.sh(SMALL, timeout=300)
    stack.ready(120)
    yield
    stack.sh(LARGE, timeout=300)
    stack.ready(120)


@situation("The disk is full")
def test_no_room_left(stack, small_disk, call):
    """Old images, and a file that somebody forgot."""
    fill = f"cd /; runuser -u senex -- env HOME={HOME} XDG_RUNTIME_DIR=/run/user/{UID} sh -c {shlex.quote(FILL)} sh registry.senex.test:5000/senex/demo"
    stack.sh(fill, timeout=300)
    said = call.type()
    assert re.search(rf"^FAIL +disk {HOME} ", said, re.MULTILINE) and call.left[0] in said
    assert "old-1" in call.type()
    shown = call.type()
    assert re.search(rf"\d[MG]\s+{HOME}/backups$", shown, re.MULTILINE), shown
    stack.sh(f"rm {HOME}/backups/forgotten")
    wait(lambda: not failures(stack.ssh("senex status").stdout), 120, "a status without failures", pause=3)
    stack.post("/api/rows/", {"text": "there is room again"})
    stack.task_runs()


@situation("A worker is stuck")
def test_a_worker_that_does_nothing(stack, call):
    stack.sh(f"kill -STOP {stack.main_pid('celery-worker')}")
    with pytest.raises(AssertionError):
        stack.task_runs(10)
    call.type()
    began = time.monotonic()
    call.type()
    assert time.monotonic() - began < 90
    stack.task_runs()
    assert not failures(call.type())


@situation("A queue grows")
def test_more_work_than_workers(stack, call):
    stack.sh("senex manage shell -c 'from probe.tasks import sleep; [sleep.delay(seconds=3) for _ in range(240)]'")
    try:
        assert re.search(r"tasks wait: .*celery \d{3}", call.type())
        assert "celery" in call.type()
        call.type()
        assert "celery-worker-2" in stack.sh("senex parts").split()
        length = "senex redis-cli -n 2 llen celery"
        assert int(stack.sh(length).split()[-1]) < 240
        wait(lambda: int(stack.sh(length).split()[-1]) < 10, 240, "a short queue", pause=3)
    finally:
        stack.play(playbook="playbooks/scale.yml", tags="all", variables=SETTINGS).expect()
        assert "celery-worker-2" not in stack.sh("senex parts").split()


@situation("The database refuses connections")
def test_too_many_connections(stack, call):
    """Somebody who takes them all and gives none back."""
    hog = (
        "import time; from django.db import connections; from django.db.utils import OperationalError; held = []\n"
        "try:\n    while True:\n        held.append(connections.create_connection('default')); held[-1].ensure_connection()\n"
        "except OperationalError:\n    time.sleep(300)\n"
    )
    stack.sh(f"systemd-run --quiet --collect --unit=oncall-hog senex manage shell -c {shlex.quote(hog)}")
    wait(lambda: stack.get("/health/")[0] == 503, 60, "a refusal")
    assert re.search("too many clients|remaining connection slots", call.type())
    assert "postgres.service: ready" in call.type()
    wait(stack.healthy, 30, "the application's health")
    assert not failures(call.type())
    stack.ssh("systemctl stop oncall-hog.service; senex restart web-1", timeout=120)


@situation("Redis does not start: a data file is damaged")
def test_two_bytes_of_the_log(stack, call):
    stack.sh("senex redis-cli -n 5 set before 1 && senex redis-cli -n 5 set damaged 1 && senex redis-cli -n 5 set after 1 && sleep 1.5")
    stack.sh(f"{USER} stop redis.service")
    stack.sh(f"log=$(ls {HOME}/data/redis/appendonlydir/*.incr.aof | tail -1); at=$(grep -abo damaged $log | tail -1 | cut -d : -f 1); "
             "printf XX | dd of=$log bs=1 seek=$((at + 9)) conv=notrunc status=none")  # fmt: skip
    stack.ssh(f"{USER} start --no-block redis.service")
    wait(lambda: "a file is damaged" in stack.ssh("senex status").stdout, 60, "a status that names it", pause=2)
    said = call.type()
    assert ".incr.aof, from byte" in said and "LOST" in said
    assert "redis.service: ready" in call.type(answer="yes")
    assert stack.sh("senex redis-cli -n 5 get before").strip() == "1" and stack.sh("senex redis-cli -n 5 get after").strip() == ""
    wait(lambda: not failures(stack.ssh("senex status").stdout), 120, "a status without failures", pause=3)
    call.type()
    stack.task_runs()
    stack.sh(f"senex redis-cli -n 5 flushdb; rm -r {HOME}/data/redis/*.damaged-*")


@situation("A certificate of the environment's own CA expires soon")
def test_a_certificate_that_ends(stack, call):
    moments = "-not_before $(date -u -d '-363 days' +%Y%m%d%H%M%SZ) -not_after $(date -u -d '+2 days' +%Y%m%d%H%M%SZ)"
    make = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=old -keyout ownca.key -out ownca.crt {moments}"
    stack.sh(f"cd /etc/nginx/senex/tls && {make} && systemctl reload nginx")
    assert "run site.yml, which renews" in stack.ssh("senex status").stdout
    call.type()
    said = call.type()
    assert not re.search(r"^(WARN|FAIL) +certificate", said, re.MULTILINE), said
    assert stack.get("/version/")[0] == 200


@situation("Something is missing after a reboot")
def test_nothing_came_back(stack, call):
    stack.sh("rm /var/lib/systemd/linger/senex")
    subprocess.run([LAB, "stop", stack.name], check=True, capture_output=True, timeout=120)
    subprocess.run([LAB, "start", stack.name], check=True, capture_output=True, timeout=120)
    wait(lambda: stack.get("/version/")[0] == 502, 60, "nginx, and nothing behind it")
    assert call.left[1] in call.type(), "what doctor prints is not what the page says"
    call.type()
    stack.ready(120)
    wait(lambda: not failures(stack.ssh("senex status").stdout), 60, "a status without failures", pause=2)
    assert not failures(call.type())
    stack.task_runs()


@situation("The whole database must go back")
def test_a_row_that_should_not_have_gone(stack, call):
    stack.sh("senex pitr base --first", timeout=300)
    number = stack.post("/api/rows/", {"text": "wanted"})["number"]
    time.sleep(1.5)  # the moment is said in whole seconds
    moment = stack.sh("date -u '+%Y-%m-%d %H:%M:%S+00'").strip()
    time.sleep(1.5)
    stack.sh("senex psql -c 'delete from probe_row'")
    # A moment can be had once the archive has seen a later one
    wait(lambda: stack.ssh(f"senex pitr plan --to '{moment}'").returncode == 0, 180, "the archive", pause=5)
    assert "every moment from" in call.type()
    copy = json.loads(re.search(r"^\{\n.*?^\}", call.type(MOMENT=moment), re.MULTILINE | re.DOTALL)[0])
    assert json.loads(stack.get("/api/rows/")[1])["count"] == 0, "what runs was touched"
    call.type(DIRECTORY=copy["directory"])
    stack.ready()
    assert json.loads(stack.get("/api/rows/")[1])["newest"]["number"] == number
    stack.task_runs()


@situation("The new release is bad")
def test_back_to_the_release_before(stack, call):
    deploy(stack, "2").expect()
    try:
        said = call.type()
        assert re.search(r"\b2\b.*succeeded", said), said
        call.type()
        assert versions(stack) == {"1"}
    finally:
        if versions(stack) != {"1"}:
            deploy(stack, "1").expect()
