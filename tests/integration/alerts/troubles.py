"""What produces each alert on a host, in waves: those of one do not hide each other. Where it cannot be produced here, the reason."""

from dataclasses import dataclass

from stack import AS_USER, HOME

SYSTEMCTL = f"{AS_USER} systemctl --user"
EXEC = f"{AS_USER} podman exec -i"
PSQL = f"{EXEC} postgres psql -XAtqU postgres -c"


def unit(name, script):
    """A script that goes on until its unit is stopped."""
    return f"cat >/root/{name} <<'END'\n{script}\nEND\nsystemd-run --quiet --collect --unit={name} bash /root/{name}"


def status(job, change):
    """The status of a job as it would have written it."""
    path = f"{HOME}/backups/status/{job}.json"
    script = f"import json; path = '{path}'; one = json.load(open(path)); {change}; json.dump(one, open(path, 'w'))"
    return f'cp -pn {path} /root/{job}.json; python3 -c "{script}"', f"cp -p /root/{job}.json {path}; rm /root/{job}.json"


@dataclass(frozen=True)
class Trouble:
    begin: str
    end: str = ":"
    says: str = ""  # in the mail
    within: int = 300  # seconds from the beginning to the mail
    why: str = ""  # of what is not as it is in life
    visits: int = 0  # of the site from outside, for those of the host itself do not count


POOL = 10
CONNECT = """
import os, sys, time, psycopg
words = dict(port=5432, dbname=os.environ["DB_NAME"], user=os.environ["DB_USER"], password=os.environ["DB_PASSWORD"], connect_timeout=60)
"""
HOLD = CONNECT + 'held = [psycopg.connect(host="postgres", sslmode="require", **words) for _ in range(168)]\ntime.sleep(900)'
CROWD = f"""
import os, threading, time, psycopg
words = dict(host=os.environ["DB_HOST"], port=os.environ["DB_PORT"], dbname=os.environ["DB_NAME"], user=os.environ["DB_USER"],
             password=os.environ["DB_PASSWORD"], sslmode=os.environ["DB_SSLMODE"], connect_timeout=60)
def one():
    while True:
        try:
            with psycopg.connect(**words) as base:
                base.execute("select pg_sleep(20)")
        except psycopg.Error:
            time.sleep(1)
[threading.Thread(target=one).start() for _ in range({3 * POOL})]
"""
SOCKETS = """
import resource, socket, threading, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = set()
def open_one():
    one = socket.create_connection(("127.0.0.1", 8001), 10)
    one.sendall(b"GET /ws/echo/ HTTP/1.1\\r\\nHost: demo.senex.test\\r\\nOrigin: https://demo.senex.test\\r\\nX-Forwarded-Proto: https\\r\\n"
                b"Connection: Upgrade\\r\\n"
                b"Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: c2VuZXgtcHJvYmUtMDEyMw==\\r\\n\\r\\n")
    return one
def answer():
    # A ping without its pong ends the connection, and an instance that is restarted meanwhile has none of them any more
    while True:
        for one in list(held):
            try:
                data = one.recv(4096, socket.MSG_DONTWAIT)
                if (at := data.find(b"\\x89")) >= 0:
                    one.sendall(b"\\x8a" + bytes([128 | data[at + 1], 0, 0, 0, 0]) + data[at + 2 : at + 2 + data[at + 1]])
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                held.discard(one)
                one.close()
        time.sleep(1)
threading.Thread(target=answer, daemon=True).start()
while True:
    if len(held) < 1600:
        try:
            held.add(open_one())
        except OSError:
            time.sleep(1)
    time.sleep(0.02)
"""
BURN = "for n in $(seq $(nproc)); do (while :; do :; done) & done; wait"
FILL = "head -c 130M /dev/zero >/mnt/alert-filling/0; for n in $(seq 100); do head -c 500K /dev/zero >/mnt/alert-filling/$n; sleep 5; done"
LOG = f"""{PSQL} "select pg_create_physical_replication_slot('alert', true)"; for n in $(seq 14); do
    {PSQL} "select pg_switch_wal() from (select pg_logical_emit_message(false, 'alert', 'x')) as one"; done"""
KILLS = f"for n in 1 2 3 4; do {AS_USER} podman kill --signal=KILL celery-beat; sleep 25; done"
WEB_DOWN = f"while :; do {SYSTEMCTL} stop web-1.service web-2.service; sleep 3; done"
NGINX_DOWN = "while :; do systemctl stop nginx.service; sleep 2; done"
SLOW = "while :; do pkill -STOP -x nginx; sleep 5; pkill -CONT -x nginx; sleep 0.3; done"
HELD = """
import json, time
now = time.time()
print(json.dumps({"id": "alert", "what": "deploy of 2", "who": "a test", "step": "web tier", "since": now, "renewed": now}))
"""
RECORD = '{"kind": "deploy", "result": "failed", "reference": "registry.senex.test:5000/senex/demo:2", "id": "alert"}'
RELEASES = "/var/lib/senex.trader/releases.jsonl"
DUMP = f"{HOME}/backups/postgresql"

failed_drill = status(
    "drill", "one.update(result='failed', sources={'dump': {'result': 'failed', 'proved': None, 'seconds': [], 'error': 'a row is missing'}})"
)
old_copy = status("base", "one.update(finished='2026-01-02T03:04:05Z')")

WAVES = {
    "the site serves": {
        "WebCpuHigh": Trouble(unit("alert-cpu", BURN), "systemctl stop alert-cpu", within=600, why="the mean of five minutes"),
        "DatabaseCpuHigh": Trouble(":", within=600, why="the same load"),
        "QueueLong": Trouble(f"{SYSTEMCTL} stop celery-worker; senex redis-cli -n 2 lpush trading $(seq 150) >/dev/null",
                             f"senex redis-cli -n 2 del trading >/dev/null; {SYSTEMCTL} start celery-worker", "150 tasks wait in queue trading"),
        "RedisMemoryHigh": Trouble(
            "senex redis-cli config get maxmemory | tail -n 1 >/root/maxmemory; "
            "used=$(senex redis-cli info memory | tr -d '\\r' | sed -n 's/^used_memory://p'); senex redis-cli config set maxmemory $((used * 106 / 100))",
            "senex redis-cli config set maxmemory $(cat /root/maxmemory)", "of maxmemory", why="its memory is made small, not full"),
        "DatabaseConnectionsHigh": Trouble(unit("alert-connections", f"{EXEC} web-2 python3 - <<'PROGRAM'\n{HOLD}\nPROGRAM"),
            f"systemctl stop alert-connections; {SYSTEMCTL} restart web-2.service"),
        "MemoryLow": Trouble(":", why="the memory is the machine's, which others use: the threshold is above all of it"),
        "DiskFilling": Trouble("mkdir -p /mnt/alert-filling; mount -t tmpfs -o size=200m filling /mnt/alert-filling; " + unit("alert-fill", FILL),
                               "systemctl stop alert-fill; umount /mnt/alert-filling", "/mnt/alert-filling is full within a day"),
        "DiskFull": Trouble("mkdir -p /mnt/alert-full; mount -t tmpfs -o size=100m full /mnt/alert-full; head -c 95M /dev/zero >/mnt/alert-full/zero",
                            "umount /mnt/alert-full", "/mnt/alert-full is 95 % full"),
        "CertificateExpires": Trouble(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=alert -days 9 -keyout /root/alert.key "
            "-out /etc/senex-trader/tls/alert.crt", "rm /etc/senex-trader/tls/alert.crt", "alert.crt) has 9 days left"),
        "BackupFailed": Trouble(f"mv {DUMP} {DUMP}.aside; touch {DUMP}; ! senex backup dump",
                                f"rm {DUMP}; mv {DUMP}.aside {DUMP}; senex backup dump", "job dump failed"),
        "BackupOld": Trouble(*old_copy, "job base was last done", why="the status says so; nobody waits a day"),
        "DrillFailed": Trouble(*failed_drill, "The restore drill from dump failed", why="the status as a drill leaves it"),
        "WalKept": Trouble(LOG, f"{PSQL} \"select pg_drop_replication_slot('alert')\"", "Slot alert keeps", within=420,
                           why="the threshold is 100 MB, for 2 GB of log would fill the test machine; the watchdog asks every five minutes"),
        "ReleaseFailed": Trouble(f"echo '{RECORD}' >>{RELEASES}", f"rm {RELEASES}", why="the record as a release leaves it"),
        "UnitRestarts": Trouble(unit("alert-kills", KILLS), ":", "celery-beat ended and was restarted"),
        "RebootPending": Trouble("touch /run/reboot-required", "rm /run/reboot-required", within=420, why="a week is three minutes and a half"),
        "MonitoringBroken": Trouble("cp -p /etc/senex-trader/metrics/prometheus.yml /root; echo 'nothing: [' >>/etc/senex-trader/metrics/prometheus.yml; "
                                    "systemctl reload prometheus || true", "cp -p /root/prometheus.yml /etc/senex-trader/metrics; systemctl reload prometheus"),
        "TargetDown": Trouble("systemctl stop prometheus-nginx-exporter", "systemctl start prometheus-nginx-exporter", "nginx on demo gives no metrics"),
        "SiteBudgetSpent": Trouble(":", why="half an hour of failures, two days ago, is in the history that the test writes"),
    },
    "no web instance": {
        "SiteDown": Trouble(unit("alert-web", WEB_DOWN), f"systemctl stop alert-web; {SYSTEMCTL} start web-1 web-2"),
        "WebInstanceDown": Trouble(":", says="web-2 does not answer"),
        "WebSocketDown": Trouble(":"),
        "SiteErrors": Trouble(":", visits=40),
        "WatchdogRestarts": Trouble(":", says="The watchdog has restarted web-"),
        "SiteBudgetBurnsFast": Trouble(":", why="the hour before is in the history that the test writes"),
        "SiteBudgetBurns": Trouble(":", why="the six hours before are in the history that the test writes"),
    },
    "no nginx": {
        "NginxDown": Trouble(unit("alert-nginx", NGINX_DOWN), "systemctl stop alert-nginx; systemctl start nginx"),
        "PoolerWaits": Trouble(unit("alert-crowd", f"{EXEC} web-1 python3 - <<'PROGRAM'\n{CROWD}\nPROGRAM"),
                               f"systemctl stop alert-crowd; {SYSTEMCTL} restart web-1.service"),
    },
    "no server": {
        "PostgresqlDown": Trouble(f"{SYSTEMCTL} stop postgres.service", f"{SYSTEMCTL} start postgres.service"),
        "RedisDown": Trouble(f"{SYSTEMCTL} stop redis.service", f"{SYSTEMCTL} start redis.service"),
    },
    "nothing is saved": {
        "RedisCannotSave": Trouble(f"chmod 0500 {HOME}/data/redis; senex redis-cli bgsave", f"chmod 0700 {HOME}/data/redis; sleep 2; senex redis-cli bgsave"),
        "ReleaseHangs": Trouble(f"python3 - >/var/lib/senex.trader/deploy.lock <<'PROGRAM'\n{HELD}\nPROGRAM", "rm /var/lib/senex.trader/deploy.lock",
                                why="the lock as a release holds it"),
        # The watchdog restarts nothing while a release is under way, as it would where so many are more than a busy machine carries
        "WebConnectionsHigh": Trouble(unit("alert-sockets", f"python3 - <<'PROGRAM'\n{SOCKETS}\nPROGRAM"), "systemctl stop alert-sockets", "are open to web-1",
                                      within=600, why="1,600 connections take minutes on a busy machine"),
    },
    "no watchdog": {
        "WatchdogSilent": Trouble("systemctl stop senex-watchdog; touch -d '-10 minutes' /var/lib/senex-metrics/senex.prom", "systemctl start senex-watchdog",
                                  why="its file is made ten minutes old"),
        "SiteSlow": Trouble(unit("alert-slow", SLOW), "systemctl stop alert-slow; pkill -CONT -x nginx", within=420, why="the mean of five minutes"),
    },
}  # fmt: skip
# Thresholds that this host cannot reach: {alert: (as it is shipped, as it is here)}
LOWERED = {"MemoryLow": ("< 10", "< 101"), "WalKept": ("> 2e9", "> 1e8")}
NOT_HERE = {"ReplicationLag": "there is a standby on another host, and while playbooks/move.yml runs alone"}
