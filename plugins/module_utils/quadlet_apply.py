"""A part as the controller hands it over, brought to its wanted state: by itself, or while another part of the same host is."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys

from ansible_collections.senex.trader.plugins.module_utils.payload import is_kept, keep, quadlet_part
from ansible_collections.senex.trader.plugins.module_utils.quadlet_transaction import Refused, Transaction
from ansible_collections.senex.trader.plugins.module_utils.release_record import Busy, Ledger
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser


def apply(data: dict, check: bool = False, beside: Beside | None = None) -> dict:
    """Apply what one call handed over, with the host's lock held; what was done, or in check mode would be."""
    user = ServiceUser(data["user"], data["home"])
    part = quadlet_part(data, user, check)
    with contextlib.nullcontext(lambda: None) if check else Ledger().changing(data["lease"]) as still:
        transaction = Transaction(part, user, present=data["state"] == "present", beside=beside, still=still)
        result = transaction.run(check=check)
        wanted = "inside" in data and not (data["inside"]["once"] and not result["changed"] and is_kept(data))
        if wanted and not check:
            still()
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
    return [line.removeprefix("changed: ") for line in result.stdout.split("\n") if line.startswith("changed: ")]


class Beside:
    """Parts handed over with another one. Each is applied by a process of its own, which holds the host's lock as well:
    should this one die, nobody else begins before that one has come to its end."""

    def __init__(self, payloads: list[str], lock: int):
        self.payloads, self.lock = payloads, lock
        self.running: list[subprocess.Popen] = []
        self.plan: list[str] = []
        self.changed = False

    def begin(self) -> None:
        """Start what has not been started."""
        for payload in self.payloads:
            # Without arguments, for what it is to do has secrets in it
            process = subprocess.Popen(
                [sys.executable],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=[self.lock],
            )
            process.stdin.write(f"import sys\nsys.path[:] = {sys.path!r}\nfrom {__name__} import main\nmain({payload!r})\n")
            process.stdin.close()
            process.stdin = None
            self.running.append(process)
        self.payloads = []

    def wait(self) -> str:
        """Wait for what was started; what went wrong with it, empty when nothing did."""
        troubles = []
        for process in self.running:
            said, complaint = process.communicate()
            try:
                result = json.loads(said.strip().rpartition("\n")[2])
            except (ValueError, IndexError):
                result = {"msg": f"the process beside ended with {process.returncode}: {complaint.strip()[-500:]}"}
            self.plan += result.get("plan", [])
            self.changed |= result.get("changed", False)
            troubles += [result["msg"]] if "msg" in result else []
        self.running = []
        return "\n".join(troubles)


def attempted(data: dict, **arguments) -> dict:
    """What `apply` answers; what it refuses as `msg`, with the plan. `bare` where the host lacks what roles before this one bring, `busy` where another
    has the lock of releases."""
    try:
        return apply(data, **arguments)
    except Refused as error:
        return {"msg": str(error), "plan": error.plan}
    except Busy as error:
        return {"msg": f"{data['part']}: {error}", "plan": [], "busy": error.holder}
    except LookupError as error:
        return {"msg": f"{data['part']}: {error}", "bare": True}
    except (CommandError, OSError) as error:
        return {"msg": f"{data['part']}: {error}"}


def main(payload: str) -> None:
    """The process beside: apply what was handed over, and say how that went."""
    result = attempted(json.loads(base64.b64decode(payload)))
    print(json.dumps({key: result[key] for key in ("msg", "plan", "changed") if key in result}))
