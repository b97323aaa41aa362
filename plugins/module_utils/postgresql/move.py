"""PostgreSQL goes to another host: a standby is made there, follows, and takes over while the poolers let their clients wait.

Steps of one host each; their order, and what goes back when one fails, is in playbooks/move.yml.
"""

from __future__ import annotations

import os
import secrets
import time

from ansible_collections.senex.trader.plugins.module_utils.host import closed_component, fileset, kept_data, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import move_state, upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql.move_state import JOINING, MOVED, PROMOTING, SHUT_DOWN, STOPPING, State
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import DATA, NO_TIMEOUT, STAGING_CONTAINER, Server, Wanted
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade import leased

ROLE = SLOT = STANDBY = "senex_move"
LETS_IN = f'hostssl    replication  "{ROLE}"  all  scram-sha-256'
# What runs at the archive of a host, and has nothing to archive any more
ARCHIVE = ("pitr-receive.service", "pitr-wal.timer", "pitr-base.timer", "pitr-drill.timer")
CAUGHT_UP = 1 << 20  # bytes that a standby may be behind when the switch begins
PROMOTION = 5.0  # seconds in which it has to have replayed everything
# By standard input: a password has no place on a command line
JOIN = """set -eu
umask 077
IFS= read -r line
printf '%s\\n' "$line" >/tmp/pgpass
IFS= read -r source
IFS= read -r follow
cat >/tmp/ca.crt
export PGPASSFILE=/tmp/pgpass
pg_basebackup --dbname="$source" --pgdata="$PGDATA" --wal-method=stream --checkpoint=fast --slot="$1" --no-password
printf "primary_conninfo = '%s'\\nprimary_slot_name = '%s'\\n" "$follow" "$1" >>"$PGDATA/postgresql.auto.conf"
: >"$PGDATA/standby.signal"
"""
FOUND = """
select current_setting('server_version_num')::int / 10000, pg_is_in_recovery(), (select sum(pg_database_size(oid)) from pg_database),
  (select string_agg(spcname, ', ') from pg_tablespace where spcname !~ '^pg_'), current_setting('ssl_ca_file') <> '',
  current_setting('max_wal_senders')::int > (select count(*) from pg_stat_replication) + 1,
  current_setting('max_replication_slots')::int > (select count(*) from pg_replication_slots where slot_name <> 'senex_move'),
  current_setting('wal_level'), (select count(*) from pg_prepared_xacts)
"""


class Move:
    """The steps of one host."""

    def __init__(self, user: ServiceUser, wanted: Wanted, identity: str, directory: str = fileset.MANIFESTS):
        self.user, self.wanted, self.identity = user, wanted, identity
        self.state = State(directory)
        self.server = Server(user, wanted)
        self.server.role = wanted.superuser  # to find out costs a program each time, while clients wait; `found` has asked
        self.service = pg_server.service_of(user, wanted)
        # The mark lies beside, as it does for an upgrade: pg_basebackup wants an empty directory, and one of a container's user changes no parent
        self.part, self.mark = f"{wanted.data}.joining", f"{wanted.data}.joining.dump"

    # Before anything is changed
    def found(self) -> dict:
        """What there is on this host. One without the service user has nothing yet."""
        answer: dict = {"state": self.state.data, "cluster": kept_data.clusters([self.wanted.data])[self.wanted.data], "free": self._free(), "serves": False}
        major = upgrade_state.major_of(self.wanted.data)
        answer["filled"] = bool(kept_data.filled([self.wanted.data])[self.wanted.data])
        if not answer["cluster"] or not self.service.is_ready():
            return {**answer, "major": major}
        asked = Server(self.user, self.wanted)
        (row,) = asked.rows(FOUND)
        version, recovery, size, spaces, authority, senders, slots, level, prepared = row
        return {
            **answer, "serves": True, "superuser": asked.role == self.wanted.superuser, "major": int(version), "standby": recovery == "t",
            "bytes": int(size), "tablespaces": spaces, "authority": authority == "t", "senders": senders == "t", "slots": slots == "t",
            "wal_level": level, "prepared": int(prepared),
        }  # fmt: skip

    def _free(self) -> int:
        place = self.wanted.data
        while not untrusted.kind(os.path.dirname(place)) and place != "/":
            place = os.path.dirname(place)
        return upgrade_state.free(place)

    # On the host that is left
    def admit(self, target: str) -> dict:
        """A standby on the other host may come: a role for it, a replication slot, and a line in pg_hba.conf; nothing restarts."""
        with self.state.alone():
            if self.state.phase not in ("", JOINING):
                raise OSError(f"a move is at '{self.state.phase}' on this host")
            password = self.state.data.get("password") or secrets.token_hex(24)  # a standby of a run before knows it
            self.state.begin(role="from", phase=JOINING, other=target, id=self.identity, password=password)
            quiet = "set log_statement = 'none'; set log_min_duration_statement = -1; set log_min_error_statement = 'panic';"
            self.server.rows(f"""{quiet}
select 'create role {ROLE} login replication' where not exists (select from pg_roles where rolname = '{ROLE}') \\gexec
alter role {ROLE} login replication nosuperuser nocreatedb nocreaterole connection limit 4 password '{password}';
select from pg_create_physical_replication_slot('{SLOT}', true) where not exists (select from pg_replication_slots where slot_name = '{SLOT}');""")
            self._let_in(True)
        return {"secret": password}

    def _let_in(self, whether: bool) -> None:
        path = os.path.join(self.wanted.configuration, "pg_hba.conf")
        content, owner = fileset.read(path)
        if content is None:
            raise OSError(f"{path} is missing: run site.yml, which writes it")
        lines = [line for line in content.decode(errors="replace").split("\n") if line != LETS_IN]
        text = "\n".join([LETS_IN, *lines] if whether else lines).encode()
        if text != content:
            self.user.writes(fileset.swap, [(path, text, owner)])
        if self.service.is_running():
            self.server.rows("select pg_reload_conf()")

    def behind(self) -> dict:
        """How many bytes the standby has not replayed yet; none where it does not follow. And what a stop would have to write is written now."""
        self.server.rows("checkpoint")
        rows = self.server.rows(f"""select state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint from pg_stat_replication
                                    where application_name = '{STANDBY}'""")
        follows = [int(behind or 0) for state, behind in rows if state == "streaming"]
        return {"bytes": follows[0] if follows else None, "caught_up": bool(follows) and follows[0] <= CAUGHT_UP}

    def stop(self) -> dict:
        """Stopped in order, so that the standby has all of it; then nobody can start it any more."""
        with self.state.alone():
            if self.state.phase not in (JOINING, STOPPING):
                raise OSError(f"a move is at '{self.state.phase or 'nothing'}' on this host: there is no standby to stop for")
            self.state.put(phase=STOPPING, id=self.identity)
            self.service.stop()
            seen = move_state.control_of(self.wanted.data)
            if seen.state != SHUT_DOWN:
                raise OSError("PostgreSQL did not stop in order, so the standby may lack what was written last")
            self._fence(True)
        return {"cluster": seen.cluster, "checkpoint": move_state.location(seen.checkpoint), "timeline": seen.timeline}

    def _fence(self, whether: bool) -> None:
        """Whoever starts the unit, or whatever wants it, finds it closed; and a run that would open it ends."""
        self.user.systemctl("mask" if whether else "unmask", self.wanted.unit)
        for component in ("postgresql", "pitr"):
            if whether:
                other = self.state.data.get("other", "another host")
                closed_component.close(component, f"PostgreSQL has gone to {other}: playbooks/move.yml alone brings it back here", self.state.directory)
            else:
                closed_component.reopen(component, self.state.directory)

    def undo(self) -> dict:
        """It serves again, and the standby follows on."""
        with self.state.alone():
            self._fence(False)
            self.service.start(after_failure=True)
            if self.state.phase == STOPPING:
                self.state.put(phase=JOINING)
        return {"ready": self.service.is_ready()}

    def close(self, address: str) -> dict:
        """It has moved: nothing here starts or archives any more."""
        with self.state.alone():
            if self.state.phase not in (STOPPING, MOVED):
                raise OSError(f"a move is at '{self.state.phase or 'nothing'}' on this host: it has not stopped")
            self.state.put(phase=MOVED, password=None, address=address, at=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
            self._fence(True)
            self.user.systemctl("disable", "--now", *ARCHIVE, check=False)
            self.user.systemctl("reset-failed", *ARCHIVE, check=False)
            self._let_in(False)
        return {}

    def forget(self) -> dict:
        """The standby is given up: nothing waits for it any more."""
        with self.state.alone():
            if self.state.phase not in ("", JOINING):
                raise OSError(f"a move is at '{self.state.phase}' on this host: it cannot be given up now")
            self._drop()
            self._let_in(False)
            self.state.begin()
        return {}

    def _drop(self) -> None:
        self.server.rows(f"""select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = '{SLOT}' and active;
select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{SLOT}';
drop role if exists {ROLE};""")

    # On the host that it goes to
    def join(self, source: str, address: str, port: int, password: str, authority: str, cluster: str) -> dict:
        """A copy of the data that follows the other host, in the place of the data directory; role postgresql starts it."""
        with self.state.alone(), leased(self.user, self.identity, "base backup"):
            if self.state.phase == PROMOTING:
                raise OSError("this host has taken over already")
            there = kept_data.clusters([self.wanted.data])[self.wanted.data]
            if self.state.phase == JOINING and there == cluster and self.state.data.get("joined"):
                return {"joined": False, "kept": self.state.data.get("kept") or ""}
            own = self.state.phase == MOVED and there == cluster
            if not own and self.state.phase != JOINING and kept_data.filled([self.wanted.data])[self.wanted.data]:
                raise OSError(f"{self.wanted.data} has data already: move it elsewhere")
            if own:
                kept = self._aside()
                before = {name: self.state.data.get(name) for name in ("other", "address", "at")}
                self.state.begin(role="to", phase=JOINING, other=source, id=self.identity, kept=kept, before=before)
            elif self.state.phase != JOINING:
                self.state.begin(role="to", phase=JOINING, other=source, id=self.identity)
            self._pull()
            pg_server.discard(self.user, self.wanted, self.part, self.mark)
            self._copy(address, port, password, authority)
            self._put_in_place(self.state.data.get("kept") or "")
        return {"joined": True, "kept": self.state.data.get("kept") or ""}

    def _put_in_place(self, kept: str) -> None:
        """What was there stays beside it. Killed in the middle, the next run finds either the standby in its place, or makes another."""
        there = untrusted.kind(self.wanted.data) == "directory"
        if kept and there and not untrusted.kind(kept):
            self.service.stop(check=False)
            self.service.host.rename(self.wanted.data, kept)
        elif there:
            self.user.podman("unshare", "rmdir", "--", self.wanted.data)
        self.state.put(joined=True)
        self.service.host.rename(self.part, self.wanted.data)
        pg_server.discard(self.user, self.wanted, self.mark)
        self._fence(False)

    def _aside(self) -> str:
        """A name beside the data, of those that `pitr discard` takes."""
        return f"{self.wanted.data}.{self.wanted.version}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"

    def _pull(self) -> None:
        if not self.user.image_ids([self.wanted.image]):
            result = self.user.podman("pull", "--quiet", self.wanted.image, check=False, timeout=1800)
            if result.returncode:
                raise OSError(self.user.cannot_pull("postgresql_image", self.wanted.image, result.stderr))

    @staticmethod
    def _conninfo(address: str, port: int, authority: str) -> str:
        return f"host={address} port={port} user={ROLE} application_name={STANDBY} sslmode=verify-full sslrootcert={authority} connect_timeout=10"

    def _copy(self, address: str, port: int, password: str, authority: str) -> None:
        self.user.make_directory(self.mark, 0o700, self.wanted.uid, None)
        pg_server.owned_do(self.user, "mark", self.mark)
        self.user.make_directory(self.part, 0o700, self.wanted.uid, None)
        options = [word for word in pg_server.confined_options(self.wanted) if word != "--network=none"]
        follow = f"{self._conninfo(address, port, '/etc/postgresql/ca.crt')} password={password}"
        lines = [f"*:*:*:*:{password}", self._conninfo(address, port, "/tmp/ca.crt"), follow, authority.strip(), ""]  # noqa: S108  (the container's own)
        words = ("run", "--rm", "--interactive", "--replace", f"--name={STAGING_CONTAINER}", "--network=host", *options, f"--volume={self.part}:{DATA}")
        command = ("--entrypoint=sh", self.wanted.image, "-c", JOIN, "sh", SLOT)
        done = self.user.podman(*words, *command, stdin="\n".join(lines), check=False, timeout=NO_TIMEOUT)
        if done.returncode:
            told = [line for line in untrusted.records(done.stderr) if line.strip()]
            raise OSError(f"no base backup came from {address}:{port}: {'; '.join(told[-3:]).replace(password, '…')}")

    def promote(self, cluster: str, checkpoint: str) -> dict:
        """It takes over, where it has replayed all that the other one wrote. From the note on, there is no way but forward."""
        with self.state.alone():
            if self.identity in self.state.data.get("retired", []):
                raise OSError("this run was called back before: the other host serves again")
            if move_state.control_of(self.wanted.data).cluster != cluster:
                raise OSError("this host has no data of this cluster")
            if self.state.phase in (PROMOTING, "") and self.server.rows("select pg_is_in_recovery()") == [["f"]]:
                return {}
            if self.state.phase != PROMOTING:
                self._has_all(checkpoint)
                self.state.put(phase=PROMOTING, id=self.identity)
            (answer,) = self.server.rows("select case when pg_is_in_recovery() then pg_promote(true, 30) else true end")
            if answer != ["t"]:
                raise OSError("PostgreSQL did not take over within 30 s; the same command goes on")
        return {}

    def _has_all(self, checkpoint: str) -> None:
        if self.state.phase != JOINING:
            raise OSError("no move has made a standby on this host")
        end = time.monotonic() + PROMOTION
        while True:
            ((replayed, recovery),) = self.server.rows(f"select pg_last_wal_replay_lsn() > '{checkpoint}'::pg_lsn, pg_is_in_recovery()")
            if (replayed, recovery) == ("t", "t"):
                return
            if time.monotonic() > end:
                raise OSError(f"the standby has not replayed what the server wrote last ({checkpoint}) within {PROMOTION:g} s")
            time.sleep(0.05)

    def retire(self, runs: list[str]) -> dict:
        """Whether none of these runs will make it serve: then the other host may start again."""
        with self.state.alone():
            if self.state.phase == PROMOTING or (self.service.is_ready() and self.server.rows("select pg_is_in_recovery()") == [["f"]]):
                return {"retired": False}
            self.state.put(retired=[*self.state.data.get("retired", []), *runs])
        return {"retired": True}

    def settle(self) -> dict:
        """It is a server like any other."""
        with self.state.alone():
            if self.state.phase not in (PROMOTING, ""):
                raise OSError(f"a move is at '{self.state.phase}' on this host: it has not taken over")
            self.server.rows("alter system reset primary_conninfo;\nalter system reset primary_slot_name;\nselect pg_reload_conf();")
            self._drop()
            self.state.begin(kept=self.state.data.get("kept"))
        return {"kept": self.state.data.get("kept", "")}

    def leave(self) -> dict:
        """The standby is given up. Its data is kept, and no run finds it by itself."""
        with self.state.alone():
            if self.state.phase not in ("", JOINING):
                raise OSError(f"a move is at '{self.state.phase}' on this host: it cannot be given up now")
            data, aside = self.state.data, ""
            self.service.stop(check=False)
            pg_server.discard(self.user, self.wanted, self.part, self.mark)
            if data.get("joined") and untrusted.kind(self.wanted.data) == "directory":
                aside = self._aside()
                self.service.host.rename(self.wanted.data, aside)
            if data.get("before"):
                if untrusted.kind(data["kept"]) == "directory" and not untrusted.kind(self.wanted.data):
                    self.service.host.rename(data["kept"], self.wanted.data)
                self.state.begin(role="from", phase=MOVED, **data["before"])
                self._fence(True)
            else:
                self._fence(True)  # at the next boot it would look for its data
                self.state.begin()
        return {"aside": aside}
