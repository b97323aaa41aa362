"""An operation that something happens to, what must hold afterwards, and the next run, which brings it to its end."""

import time

from stack import HOME, wait

SECRET = "database_password"  # noqa: S105
VAULT = f"vault_{SECRET}"


class Attempt:
    """One operation on the pair: what it is asked for, what was before, what became of it."""

    def __init__(self, pair, name):
        self.pair, self.name = pair, name
        self.old = pair.versions(pair.one)[0]
        self.new = self.old
        self.major = pair.major()
        self.records = {host.name: len(pair.records(host)) for host in pair.hosts}
        self.secrets = pair.secrets()
        self.playbook, self.variables = getattr(self, name)()
        self.rows = pair.rows()
        self.before = frozenset(self.rows)

    # What is asked for
    def deploy(self):
        self.new = "1" if self.old == "2" else "2"
        return "deploy", {"django_image_tag": self.new}

    def rotate(self):
        return "rotate", {"secret": SECRET, "rotate_confirm": True, "vault_place_is_kept": True}

    def restore(self):
        """To a dump that lacks a row."""
        self.pair.inside(self.pair.one, "senex backup dump", timeout=120)
        self.dumped = self.pair.rows()
        self.pair.post("after the dump")
        # By its name: whoever releases meanwhile makes a newer one
        name = self.pair.inside(self.pair.one, f"ls -t {HOME}/backups/postgresql/*.sql.gz | head -1").strip().rpartition("/")[2]
        return "restore", {"restore_dump": name, "restore_confirm": True}

    def upgrade(self):
        """Forward, or back where it went forward last."""
        self.way = {"upgrade_back": True} if self.major == 17 else {}
        return "upgrade_postgresql", {"postgresql_version": 17, "upgrade_confirm": True, **self.way}

    def settled(self):
        """Inputs as they are in the inventory by now."""
        return {"postgresql_version": self.pair.major(), **self.variables}

    def begin(self, moment=None):
        return self.pair.begin(self.playbook, self.settled(), moment)

    # What must hold
    def newest(self, host):
        """What this operation, or the one after it, recorded on a host."""
        return self.pair.records(host)[self.records[host.name] :]

    def judge(self, run, lost=None):
        """After a run that went on without a host, or without one of its tasks: nothing is lost, what is told is true, and the site serves."""
        self.vault_is_whole()
        self.records_are_true(run, lost)
        self.serves(lost)
        self.nothing_is_lost()

    def vault_is_whole(self):
        """Every value is there; of one that is under way both, and the database takes what the vault knows."""
        held = self.pair.secrets()
        assert held.keys() >= self.secrets.keys() and all(held[name] for name in self.secrets)
        assert {name: held[name] for name in self.secrets if name.startswith("vault_") and name not in (VAULT, "vault_rotated")}.items() <= self.secrets.items()
        entry = (held.get("vault_rotation") or {}).get(SECRET)
        if entry:
            assert entry["other"] and entry["other"] != held[VAULT] and self.secrets[VAULT] in (entry["other"], held[VAULT])

    def records_are_true(self, run, lost):
        """Of a release: the hosts that answer say the same, and it is what runs; whoever is lost and differs is named."""
        if self.name != "deploy":
            return
        told = {host.name: self.newest(host)[-1]["result"] if self.newest(host) else "" for host in self.pair.hosts}
        answering = {result for name, result in told.items() if name != lost}
        assert len(answering) == 1, f"{told}: {run.output[-3000:]}"
        (result,) = answering
        wanted = self.new if result == "succeeded" else self.old
        for host in self.pair.hosts:
            runs = set(self.pair.versions(host))
            if runs != {wanted}:
                assert host.name == lost and result in ("not switched back", ""), f"{host.name} runs {runs}, and {told} says {result}: {run.output[-3000:]}"
                assert host.name in run.said[run.said.index("failed (") :], run.output[-3000:]
        if lost and told[lost] != result:
            assert f"{lost}: nothing was recorded, and its lock is left" in run.said or result == "", run.output[-3000:]
            assert set(self.pair.locked()) <= {lost}
        assert result or run.code, f"it ended well and recorded nothing: {run.output[-3000:]}"

    def serves(self, lost=None):
        """Users get pages and write rows, by whichever host is left."""
        self.seconds = wait(self.pair.healthy, 60, f"the site serves, {self.name}", pause=1)
        for _ in range(4):
            status, body = self.pair.get("/api/rows/", timeout=20)
            assert status == 200, body[:300]
        self.rows.add(self.pair.post("while a host is away" if lost else "after it"))

    def nothing_is_lost(self):
        """Every row that was acknowledged; of a restore that came to its end those of its dump alone, and of an upgrade that went back those of before it."""
        rows = self.pair.rows()
        if self.name == "upgrade" and self.way and self.pair.major() == 15:
            gone = self.before - rows  # written on the newer version, whose data is kept aside
            assert not gone or min(gone) > max(self.before & rows), f"{sorted(gone)} are gone"
            assert not gone or "postgres.17-" in self.pair.inside(self.pair.one, f"ls {HOME}/data"), f"{sorted(gone)} are gone, and nothing is kept"
            rows |= gone
        if self.name == "restore" and not self.rows <= rows:
            assert self.dumped <= rows and rows - self.dumped <= self.rows, f"{sorted(self.rows - rows)} are gone, {sorted(self.dumped - rows)} of the dump"
            return
        assert self.rows <= rows, f"{sorted(self.rows - rows)} are gone"

    def no_module_runs(self):
        """What a lost run has sent to a host goes on there to its end. The prober of a release that sleeps is no module."""
        looked = "for one in $(pgrep -u root -xf '/usr/bin/python3[.0-9]*'); do grep -q senex-prober /proc/$one/cgroup || echo $one; done 2>/dev/null; true"
        wait(lambda: not any(self.pair.inside(host, looked) for host in self.pair.hosts), 120, "no module runs any more")

    def stands(self):
        """Whether the application was stopped for an exchange on every host, and nobody has started it again."""
        return all(self.pair.inside(host, "cat /var/lib/senex.trader/application-rests 2>/dev/null || true") for host in self.pair.hosts)

    def other_tag(self):
        """What another one releases meanwhile."""
        return self.new if self.name == "deploy" else "1" if self.old == "2" else "2"

    def converges(self):
        """The next run, with every host back, does what is missing."""
        self.no_module_runs()
        begin = time.monotonic()
        self.begin().end().expect()
        self.next = time.monotonic() - begin
        assert self.pair.locked() == []
        self.pair.ready(90)
        if self.name == "deploy":
            assert [set(self.pair.versions(host)) for host in self.pair.hosts] == [{self.new}, {self.new}]
            newest = [self.pair.records(host)[-1] for host in self.pair.hosts]
            assert {(one["tag"], one["result"]) for one in newest} == {(self.new, "succeeded")} and newest[0]["id"] == newest[1]["id"], newest
        if self.name == "rotate":
            held = self.pair.secrets()
            assert "vault_rotation" not in held and held[VAULT] != self.secrets[VAULT]
        if self.name == "restore":
            rows = self.pair.rows()
            assert self.dumped <= rows and not (self.rows - self.dumped) & rows, "it is the dump's"
        if self.name == "upgrade":
            assert self.pair.major() == (15 if self.way else 17)
        self.pair.post("after the next run")
