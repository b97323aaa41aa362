"""A part as the controller hands it over, brought to its wanted state: by itself, or while another part of the same host is."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

from ansible_collections.senex.trader.plugins.module_utils import fileset
from ansible_collections.senex.trader.plugins.module_utils.payload import is_kept, keep, quadlet_part
from ansible_collections.senex.trader.plugins.module_utils.quadlet_transaction import Refused, Transaction
from ansible_collections.senex.trader.plugins.module_utils.release_record import Ledger
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser

# What is held lies where a reboot removes it, and only root may read it: it has the part's secrets
HELD = "/run/senex.trader/held"


def apply(data: dict, check: bool = False, beside: Beside | None = None) -> dict:
    """Apply what one call handed over, with the host's lock held; what was done, or in check mode would be."""
    user = ServiceUser(data["user"], data["home"])
    part = quadlet_part(data, user, check)
    if data["lease"]:
        Ledger().renew(data["lease"]["id"], data["lease"]["at"], data["lease"].get("about"))
    transaction = Transaction(part, user, present=data["state"] == "present", beside=beside)
    result = transaction.run(check=check)
    wanted = "inside" in data and not (data["inside"]["once"] and not result["changed"] and is_kept(data))
    made = run_inside(user, data["inside"]) if wanted and not check else []
    if not check:
        keep(data)
    return {**result, "changed": result["changed"] or bool(made), "plan": [*result["plan"], *(f"change {what}" for what in made)]}


def run_inside(user: ServiceUser, wanted: dict) -> list[str]:
    """Run a script in a container, by standard input, which no process list shows; what it says that it changed."""
    result = user.podman("exec", "--interactive", wanted["container"], "sh", "-s", stdin=wanted["script"], check=False)
    if result.returncode:
        said = result.stderr.strip()
        for word in wanted["redact"]:
            said = said.replace(word, "********")
        raise Refused(f"{wanted['trouble']}: {said}", [])
    return [line.removeprefix("changed: ") for line in result.stdout.splitlines() if line.startswith("changed: ")]


def hold(data: dict, directory: str = HELD) -> None:
    """Keep a part on the host for the call that applies it beside its own."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fileset.swap([(os.path.join(directory, data["part"]), json.dumps(data).encode(), (0o600, os.geteuid(), os.getegid()))])


class Beside:
    """Parts that were held for this call. Each is applied by a process of its own, which holds the host's lock as well:
    should this one die, nobody else begins before that one has come to its end."""

    def __init__(self, parts: list[str], lock: int, directory: str = HELD):
        self.texts = [text for part in parts if (text := self._take(os.path.join(directory, part))) is not None]
        self.lock = lock
        self.running: list[subprocess.Popen] = []
        self.plan: list[str] = []
        self.changed = False

    @staticmethod
    def _take(path: str) -> str | None:
        content, _owner = fileset.read(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return None if content is None else content.decode()

    def begin(self) -> None:
        """Start what has not been started."""
        for text in self.texts:
            # Without arguments, for what it is to do has secrets in it
            process = subprocess.Popen(
                [sys.executable],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=[self.lock],
            )
            process.stdin.write(f"import sys\nsys.path[:] = {sys.path!r}\nfrom {__name__} import main\nmain({text!r})\n")
            process.stdin.close()
            process.stdin = None
            self.running.append(process)
        self.texts = []

    def wait(self) -> str:
        """Wait for what was started; what went wrong with it, empty when nothing did."""
        troubles = []
        for process in self.running:
            said, complaint = process.communicate()
            try:
                result = json.loads(said.splitlines()[-1])
            except (ValueError, IndexError):
                result = {"msg": f"the process beside ended with {process.returncode}: {complaint.strip()[-500:]}"}
            self.plan += result.get("plan", [])
            self.changed |= result.get("changed", False)
            troubles += [result["msg"]] if "msg" in result else []
        self.running = []
        return "\n".join(troubles)


def attempted(data: dict, **arguments) -> dict:
    """What `apply` answers; what it refuses as `msg`, with the plan. `bare` where the host lacks what roles before this one bring."""
    try:
        return apply(data, **arguments)
    except Refused as error:
        return {"msg": str(error), "plan": error.plan}
    except LookupError as error:
        return {"msg": f"{data['part']}: {error}", "bare": True}
    except (CommandError, OSError) as error:
        return {"msg": f"{data['part']}: {error}"}


def main(text: str) -> None:
    """The process beside: apply what was held, and say how that went."""
    result = attempted(json.loads(text))
    print(json.dumps({key: result[key] for key in ("msg", "plan", "changed") if key in result}))
