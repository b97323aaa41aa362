"""Backups off the host, in a real server that speaks S3: sent, checked, fetched, and unreadable without the passphrase."""

import json

from conftest import BACKUPS, PASSPHRASE, PLAIN, S3, SECRET
from parts import HOME, apply, eventually


def objects(host):
    listing = host.check_output(f"{S3}/backups?list-type=2")
    return [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]


def test_sent_under_its_timer(host, sent):
    since = sent.now()
    assert sent.fire("offsite") == "success", sent.said(since)
    status = sent.status("offsite")
    assert status["result"] == "ok" and status["bytes"] > 300_000
    assert [name for name in objects(host) if "/data/" in name]
    assert sent.made("offsite")["new_bytes"] < 10_000, "what is there already is not sent again"


def test_unreadable_without_the_passphrase(host, sent):
    host.check_output("rm -rf /root/bucket && mkdir /root/bucket")
    for number, name in enumerate(objects(host)):
        host.check_output(f"{S3}/backups/{name} -o /root/bucket/{number}")
    for words in (PLAIN, "kept_id_seq", "CREATE TABLE", "manual-2", "one.bin", PASSPHRASE):
        assert host.run(f"grep -ral -e '{words}' /root/bucket").stdout == "", words
    host.check_output("echo another-passphrase > /root/wrong")
    cacert = "--cacert /root/s3/cert.pem"
    keys = f"AWS_SHARED_CREDENTIALS_FILE={HOME}/config/backup/s3-credentials"
    wrong = host.run(f"{keys} restic {cacert} -r s3:https://127.0.0.1:9000/backups/senex --password-file /root/wrong snapshots")
    assert wrong.rc == 12 and "wrong password" in wrong.stderr


def test_secrets_are_for_the_service_user_alone(host, sent):
    sent.sample_command_lines()
    seen = sent.sampled("/usr/bin/restic", meanwhile=lambda: sent.run("restic snapshots"))
    assert PASSPHRASE not in seen and SECRET not in seen
    for name in ("passphrase", "s3-credentials", "heartbeats.json"):
        assert host.check_output(f"stat -c '%a %U' {HOME}/config/backup/{name}") == "600 senex"
    for words in (PASSPHRASE, SECRET):
        pattern = f"{words[:-1]}[{words[-1]}]"
        assert host.run(f"runuser -u nobody -- grep -rls -e '{pattern}' /etc /opt /run /tmp /var").stdout == ""
        assert host.run(f"journalctl --no-pager -q --output=export | grep -a -e '{pattern}'").stdout == ""


def test_fetched_on_a_host_that_has_nothing(host, sent):
    places = ("postgresql", "redis", "media")
    before = {place: sent.files(place) for place in places}
    host.check_output(f"cd {BACKUPS} && rm -rf {' '.join(places)}")
    result = sent.run("fetch")
    assert result.rc == 0, result.stderr
    assert {place: sent.files(place) for place in places} == before
    assert host.check_output(f"find {BACKUPS}/media -name one.bin -exec stat -c '%u %a' {{}} + | sort -u") == "200999 600"
    assert sent.run("verify").rc == 0


def test_fetching_overwrites_nothing(host, sent):
    dump = sorted(name for name in sent.complete())[-1]
    host.check_output(f"cd {BACKUPS}/postgresql && echo mine > {dump}")
    assert sent.run("fetch").rc == 0
    assert host.check_output(f"cat {BACKUPS}/postgresql/{dump}") == "mine"
    host.check_output(f"rm {BACKUPS}/postgresql/{dump}")
    assert sent.run("fetch").rc == 0
    assert sent.run(f"verify {dump}").rc == 0


def test_checked_under_its_timer(sent):
    since = sent.now()
    assert sent.fire("offsite-check") == "success", sent.said(since)
    assert sent.status("offsite-check")["result"] == "ok"


def test_one_flipped_byte_in_the_bucket_is_found_and_named(host, sent):
    name = next(name for name in objects(host) if "/data/" in name)
    host.check_output(f"{S3}/backups/{name} -o /root/pack && cp /root/pack /root/flipped")
    host.check_output("python3 -c \"f = open('/root/flipped', 'r+b'); b = f.read(50); f.seek(49); f.write(bytes([b[49] ^ 1]))\"")
    host.check_output(f"{S3}/backups/{name} -T /root/flipped")
    try:
        assert sent.begin("offsite-check") != "success"
        status = sent.status("offsite-check")
        assert status["result"] == "failed" and name.rpartition("/")[2][:8] in status["error"], status
    finally:
        host.check_output(f"{S3}/backups/{name} -T /root/pack")
    assert sent.begin("offsite-check") == "success"


def test_a_storage_out_of_reach_fails_clearly_and_harms_nothing(host, sent):
    before, since = sent.files(), sent.now()
    host.check_output("nft add table ip away; nft add chain ip away out '{ type filter hook output priority 0; }';"
                      " nft add rule ip away out ip daddr 127.0.0.1 tcp dport 9000 reject with tcp reset")  # fmt: skip
    try:
        assert sent.begin("offsite") != "success"
    finally:
        host.check_output("nft delete table ip away")
    status = sent.status("offsite")
    assert status["result"] == "failed" and "127.0.0.1:9000, cannot be reached" in status["error"]
    assert sent.said(since)[0].count("backup offsite failed:") == 1
    assert sent.files() == before and sent.made("dump")["bytes"] > 0
    assert sent.made("offsite")["bytes"] > 0


def test_the_passphrase_can_be_changed(host, sent):
    """In the stages of playbooks/rotate.yml: a second key, the new passphrase, the old key removed. Each done twice changes nothing."""
    new, place = "another-passphrase-of-molecule", f"{HOME}/config/backup"
    host.check_output(f"cp -a {place}/passphrase /root/old; echo {new} > /root/other")

    def keys():
        return len(json.loads(sent.run("restic key list --json").stdout))

    for _ in range(2):
        result = sent.run("rekey accept < /root/other")
        assert result.rc == 0 and keys() == 2, result.stderr
    hearts = {"dump": "http://127.0.0.1:9001/?heart-of-dump", "redis": "http://127.0.0.1:9002/"}  # see the test below
    sent.inputs |= {"backup_passphrase": new, "backup_heartbeat_urls": hearts}
    apply(sent.inputs)
    for _ in range(2):
        result = sent.run("rekey refuse < /root/old")
        assert result.rc == 0 and keys() == 1, result.stderr
    assert sent.run("rekey refuse < /root/other").rc != 0, "the only key there is"
    assert sent.made("offsite")["bytes"] > 0
    host.check_output(f"cp -a {place}/passphrase /root/new && cp -a /root/old {place}/passphrase")
    result = sent.run("offsite")
    host.check_output(f"cp -a /root/new {place}/passphrase")
    assert result.rc != 0 and "backup_passphrase does not open the repository" in result.stderr
    status = sent.status("offsite")
    assert status["result"] == "failed" and "backup_passphrase does not open the repository" in status["error"]


def test_a_heartbeat_is_sent_and_one_that_fails_is_no_failure(host, sent):
    host.check_output("systemd-run --unit=lab-heart --working-directory=/run python3 -m http.server 9001 --bind 127.0.0.1")
    eventually(lambda: host.run("curl -s http://127.0.0.1:9001/").rc == 0)
    sent.made("dump")
    eventually(lambda: "GET /?heart-of-dump" in host.check_output("journalctl -u lab-heart --no-pager -q -o cat"))
    result = sent.run("redis")
    assert result.rc == 0 and "the heartbeat of redis was not taken" in result.stdout
    host.check_output("systemctl stop lab-heart")
