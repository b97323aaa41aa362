"""Redis goes to another host: a replica is made there, follows, and takes over while nginx holds requests; whoever comes to the old place is led on.

Steps of one host each; their order is in playbooks/move.yml. The switch is one step of the host that is left, which tells the other one by Redis' own
protocol: so one process knows how far it is, and either goes back by itself or has noted that there is no way but forward.
"""

from __future__ import annotations

import os
import re
import secrets
import time

from ansible_collections.senex.trader.plugins.module_utils.host import closed_component, fileset, kept_data, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import CONTRACT
from ansible_collections.senex.trader.plugins.module_utils.nginx.request_hold import RequestHold
from ansible_collections.senex.trader.plugins.module_utils.redis import forwarder
from ansible_collections.senex.trader.plugins.module_utils.redis.client import Address, Client, Refused, fields
from ansible_collections.senex.trader.plugins.module_utils.redis.move_state import JOINING, LEADING, MOVED, PROMOTING, STOPPING, State

UNIT, CACHE_UNIT, CONTAINER = "redis.service", "redis-cache.service", "redis"
USER = "_move"
SOURCE_RULES = "+psync +replconf +ping +info +client|pause +client|unpause"
TARGET_RULES = "+replicaof +ping +info"
CLOSED = ("redis", "redis-cache")
BEHIND = 1 << 20  # bytes that a replica may be behind when the switch begins
PAUSE = 15000  # milliseconds after which writes go on by themselves, should this process die before Redis is stopped
EQUAL, TAKES_OVER, LEADS = 4.0, 6.0, 10.0  # seconds for each step of the switch
REFUSED = re.compile(r"^(ERR|NO[A-Z]+|WRONG[A-Z]+|READONLY|LOADING|MISCONF|BUSY|OOM) .*$", re.MULTILINE)


class NotTheSame(OSError):
    """The other one has not the data that this one had, or nothing shows that it has."""


def lineage(info: dict[str, str], replid: str, offset: int) -> str:
    """What a Redis is to one that stopped with this id and offset: `replica` that has all of it, `successor` that took over from there, or nothing."""
    if info.get("role") == "slave" and info.get("master_replid") == replid and int(info.get("slave_repl_offset") or 0) >= offset:
        return "replica"
    if info.get("role") == "master" and info.get("master_replid2") == replid and int(info.get("second_repl_offset") or 0) > offset:
        return "successor"
    return ""


class Move:
    """The steps of one host. `place`: image, uid, network, address, port, data, authority and forwarder (its program) of this host."""

    def __init__(self, user: ServiceUser, place: dict, identity: str, directory: str = fileset.MANIFESTS):
        self.user, self.place, self.identity = user, place, identity
        self.state = State(directory)
        self.data = os.path.join(user.home, place["data"])
        self.save = ""  # when snapshots are made, while none are for the switch

    # Of this host's own Redis
    def _cli(self, *lines: str) -> str:
        """By standard input: a password has no place on a command line. There redis-cli ends with 0 whatever Redis says."""
        said = self.user.podman("exec", "-i", CONTAINER, "redis-cli", "-e", stdin="\n".join(lines) + "\n", timeout=60).stdout
        if refused := REFUSED.search(said):
            raise OSError(f"Redis says: {refused[0].strip()}")
        return said

    def _info(self) -> dict[str, str]:
        return fields(self._cli("info"))

    def _running(self) -> bool:
        return self.user.systemctl("is-active", UNIT, check=False).returncode == 0

    def _client(self, host: str, port: int, timeout: float = 3.0) -> Client:
        return Client(Address(host, port, self.place["authority"], USER, self.state.data["password"]), timeout)

    def _fence(self, whether: bool) -> None:
        """Whoever starts the unit, or whatever wants it, finds it closed; and a run that would open it ends."""
        self.user.systemctl("mask" if whether else "unmask", UNIT)
        for component in CLOSED:
            if whether:
                other = self.state.data.get("other", "another host")
                closed_component.close(component, f"Redis has gone to {other}: playbooks/move.yml alone brings it back here", self.state.directory)
            else:
                closed_component.reopen(component, self.state.directory)

    # Before anything is changed
    def found(self) -> dict:
        """What there is on this host."""
        answer: dict = {"component": "redis", "state": shown(self.state.data), "filled": bool(kept_data.filled([self.data])[self.data]), "serves": False}
        if not self._running():
            return answer
        try:
            info = self._info()
        except (CommandError, OSError):
            return answer
        content, _owner = self.user.writes(fileset.read, os.path.join(self.user.home, ".config/containers/systemd/redis.container"))
        published = f"PublishPort={self.place['address']}:{self.place['port']}:" in (content or b"").decode(errors="replace")
        return {
            **answer, "serves": True, "replica": info.get("role") == "slave", "version": info.get("redis_version", ""), "bytes": int(info["used_memory"]),
            "dataset": int(info.get("used_memory_dataset") or info["used_memory"]), "maxmemory": int(info["maxmemory"]),
            "loading": info.get("loading") == "1", "published": published and bool(self.place["address"]), "connected": int(info["connected_clients"]),
        }  # fmt: skip

    # On the host that is left
    def admit(self, target: str) -> dict:
        """A replica on the other host may come: a user for it, until Redis stops; nothing restarts."""
        with self.state.alone():
            if self.state.phase not in ("", JOINING):
                raise OSError(f"a move is at '{self.state.phase}' on this host")
            password = self.state.data.get("password") or secrets.token_hex(24)  # a replica of a run before knows it
            self.state.begin(role="from", phase=JOINING, other=target, id=self.identity, password=password)
            self._cli(f"acl setuser {USER} reset on >{password} {SOURCE_RULES}")
        return {"secret": password}

    def switch(self, address: str, port: int) -> dict:
        """Everything while clients wait: writes pause, the other one has all, Redis stops here and is closed, the other one takes over, and the old place
        leads to it. A failure before it has taken over lets Redis serve here again."""
        with self.state.alone():
            if self.state.phase == MOVED:
                return {"held": 0.0}
            if self.state.phase not in (JOINING, PROMOTING, LEADING):
                raise OSError(f"a move is at '{self.state.phase or 'nothing'}' on this host: there is no replica to switch to")
            if self.state.phase == JOINING:
                self._prepare(address, port)
            began = time.monotonic()
            there = untrusted.kind(CONTRACT) == "file"
            with RequestHold({"contract": CONTRACT} if there else None, self.user.run):
                drained = time.monotonic() - began
                self._switch(address, port)
            held = time.monotonic() - began
            self._close(address, port)
        return {"held": round(held, 1), "drained": round(drained, 1)}

    def _switch(self, address: str, port: int) -> None:
        if self.state.phase == JOINING:
            try:
                self._stop(address, port)
            except Exception:
                self._back()
                raise
        if self.state.phase in (STOPPING, PROMOTING):
            self._promote(address, port)
        self.state.put(phase=LEADING)
        self._lead(address, port)

    def _prepare(self, address: str, port: int) -> None:
        """Whatever takes its time, and can fail, before anybody waits."""
        with self._client(self.place["address"], self.place["port"]) as here, self._client(address, port) as there:
            mine, other = fields(here("INFO", "replication")), fields(there("INFO", "replication"))
        behind = int(mine["master_repl_offset"]) - int(other.get("slave_repl_offset") or 0)
        if lineage(other, mine["master_replid"], 0) != "replica" or other.get("master_link_status") != "up" or behind > BEHIND:
            raise OSError("the replica does not follow; nothing was switched, and the same command goes on")
        words = {"image": self.place["image"], "network": self.place["network"], "uid": self.place["uid"], "address": self.place["address"],
                 "port": self.place["port"], "other": self.state.data["other"], "other_address": address, "other_port": port}  # fmt: skip
        forwarder.install(self.user, self.place["forwarder"], self.place["authority"], words)
        # With a log (AOF) a stop writes what is missing of it, and needs no snapshot, which takes its time
        if fields(self._cli("info persistence")).get("aof_enabled") == "1":
            self.save = (self._cli("config get save").split("\n") + [""])[1].strip()
            self._cli('config set save ""')

    def _stop(self, address: str, port: int) -> None:
        with self._client(self.place["address"], self.place["port"]) as here, self._client(address, port) as there:
            here("CLIENT", "PAUSE", str(PAUSE), "WRITE")
            end = time.monotonic() + EQUAL
            while True:
                mine, other = fields(here("INFO", "replication")), fields(there("INFO", "replication"))
                offset = int(mine["master_repl_offset"])
                if lineage(other, mine["master_replid"], offset) == "replica":
                    break
                if time.monotonic() > end:
                    raise OSError(f"the replica has not what was written last (offset {offset}) within {EQUAL:g} s")
                time.sleep(0.02)
        self.state.put(phase=STOPPING, id=self.identity, replid=mine["master_replid"], offset=offset)
        self.user.systemctl("stop", UNIT)
        self._fence(True)

    def _promote(self, address: str, port: int) -> None:
        """From the note on there is no way but forward, unless certainly nothing was said."""
        self.state.put(phase=PROMOTING)
        told, last, end = False, "", time.monotonic() + TAKES_OVER
        while time.monotonic() < end:
            try:
                with self._client(address, port) as there:
                    kin = lineage(fields(there("INFO", "replication")), self.state.data["replid"], int(self.state.data["offset"]))
                    if kin == "successor":
                        return
                    if not kin:
                        raise NotTheSame("Redis there was started anew and is no copy of this one any more")
                    told = True
                    there("REPLICAOF", "NO", "ONE")
            except (NotTheSame, Refused) as error:
                # Nobody is led there yet, so what it has is nobody's: one that took over would say so, or know this user
                self._back()
                raise OSError(f"{self.state.data['other']}: {error}; Redis serves here as before") from None
            except OSError as error:
                last = str(error)
                time.sleep(0.1)
        if not told:
            self._back()
            raise OSError(f"{self.state.data['other']} does not answer ({last}); Redis serves here as before")
        raise OSError(f"{self.state.data['other']} was told to take over and does not answer ({last}); both are left as they are, the same command goes on")

    def _lead(self, address: str, port: int) -> None:
        """From here on whoever has the old address is led to the new one."""
        self.user.systemctl("start", forwarder.UNIT)
        last, end = "", time.monotonic() + LEADS
        while time.monotonic() < end:
            try:
                with self._client(self.place["address"], self.place["port"], 1.0) as there:
                    if fields(there("INFO", "replication")).get("role") == "master":
                        return
            except OSError as error:
                last = str(error)
                time.sleep(0.05)
        raise OSError(f"{forwarder.UNIT} does not lead to {address}:{port} ({last}): senex logs redis-forward says why; the same command goes on")

    def _close(self, address: str, port: int) -> None:
        self.state.put(phase=MOVED, password=None, address=address, port=port, forwards=True, at=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))

    def _back(self) -> None:
        """Redis serves here again. Who follows it follows on after the next run."""
        self._fence(False)
        self.user.systemctl("stop", forwarder.UNIT, check=False)
        if self._running():
            self._cli("client unpause", *([f'config set save "{self.save}"'] if self.save else []))
        else:
            self.user.systemctl("reset-failed", UNIT, check=False)
            self.user.systemctl("start", UNIT)
        self.state.put(phase=JOINING)

    def undo(self) -> dict:
        """It serves again."""
        with self.state.alone():
            if self.state.phase not in (JOINING, STOPPING):
                raise OSError(f"a move is at '{self.state.phase or 'nothing'}' on this host: there is nothing to take back")
            self._back()
        return {}

    def forget(self) -> dict:
        """The replica is given up: nothing may follow any more."""
        with self.state.alone():
            if self.state.phase not in ("", JOINING):
                raise OSError(f"a move is at '{self.state.phase}' on this host: it cannot be given up now")
            self._cli(f"acl deluser {USER}")
            forwarder.remove(self.user)
            self.state.begin()
        return {}

    def end(self) -> dict:
        """Nobody has the old address any more: the way from there goes, and the cache's own Redis, which had no data."""
        with self.state.alone():
            if self.state.phase == MOVED and self.state.data.get("forwards"):
                forwarder.remove(self.user)
                self.user.systemctl("stop", CACHE_UNIT, check=False)
                self.user.systemctl("mask", CACHE_UNIT, check=False)
                self.state.put(forwards=None)
        return {}

    # On the host that it goes to
    def clear(self, source: str) -> dict:
        """Room for the copy: what this host had before a move is kept beside it. Role redis then makes a new one."""
        with self.state.alone():
            phase, filled = self.state.phase, kept_data.filled([self.data])[self.data]
            if phase == JOINING:
                return {"new": not filled}
            if phase == MOVED:
                before = {name: self.state.data.get(name) for name in ("other", "address", "port", "at")}
                kept = f"{self.data}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
                self.state.begin(role="to", phase=JOINING, other=source, id=self.identity, kept=kept, before=before)
                self.user.does(os.rename, self.data, kept)
            elif filled:
                raise OSError(f"{self.data} has data already, which no move has left there: move it elsewhere")
            else:
                self.state.begin(role="to", phase=JOINING, other=source, id=self.identity)
            self._fence(False)
            self.user.systemctl("unmask", CACHE_UNIT, check=False)
        return {"new": True}

    def follow(self, address: str, port: int, password: str) -> dict:
        """Redis of this host, which nobody uses yet, becomes a replica. Only in its memory: what starts anew is no replica, and the next run makes it one."""
        with self.state.alone():
            if self.state.phase != JOINING:
                raise OSError(f"a move is at '{self.state.phase or 'nothing'}' on this host: nothing may follow here")
            self.user.podman("exec", "-i", CONTAINER, "sh", "-c", "cat >/tmp/ca.crt", stdin=self.place["authority"])
            self._cli(f"acl setuser {USER} reset on >{password} {TARGET_RULES}", "config set tls-ca-cert-file /tmp/ca.crt", "config set tls-replication yes",
                      f"config set masteruser {USER}", f"config set masterauth {password}", f"replicaof {address} {port}")  # fmt: skip
        return {}

    def behind(self) -> dict:
        """Whether it follows."""
        info = fields(self._cli("info replication"))
        up = info.get("role") == "slave" and info.get("master_link_status") == "up" and info.get("master_sync_in_progress") == "0"
        return {"caught_up": up, "state": info.get("master_link_status", info.get("role", ""))}

    def settle(self) -> dict:
        """It is a server like any other."""
        with self.state.alone():
            if self.state.phase == JOINING:
                if fields(self._cli("info replication")).get("role") != "master":
                    raise OSError("Redis of this host has not taken over")
                self._cli('config set masterauth ""', 'config set masteruser ""', f"acl deluser {USER}")
                self.state.begin(kept=self.state.data.get("kept"))
        return {"kept": self.state.data.get("kept", "")}

    def leave(self) -> dict:
        """The replica is given up. Its data is kept, and no run finds it by itself."""
        with self.state.alone():
            if self.state.phase not in ("", JOINING):
                raise OSError(f"a move is at '{self.state.phase}' on this host: it cannot be given up now")
            data, aside = self.state.data, ""
            self.user.systemctl("stop", UNIT, check=False)
            self.user.systemctl("stop", CACHE_UNIT, check=False)
            if data.get("role") == "to" and kept_data.filled([self.data])[self.data]:
                aside = f"{self.data}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
                self.user.does(os.rename, self.data, aside)
            self._fence(True)
            if data.get("before"):
                if untrusted.kind(data["kept"]) == "directory" and not untrusted.kind(self.data):
                    self.user.does(os.rename, data["kept"], self.data)
                self.state.begin(role="from", phase=MOVED, **data["before"])
            else:
                self.state.begin()
        return {"aside": aside}


def shown(data: dict) -> dict:
    """What of it others may see."""
    return {name: value for name, value in data.items() if name != "password"}
