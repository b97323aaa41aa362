"""A component as the controller hands it over, brought to its wanted state: by itself, or while another component of the same host is.

Above both the engine and the release: here the engine gets the lock of the host and the traffic probe, of which it knows nothing itself.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys

from ansible_collections.senex.trader.plugins.module_utils.engine.payload import is_applied, quadlet_component, save_applied
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host import closed_component, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_gate


def apply(data: dict, check: bool = False, concurrent: ConcurrentApply | None = None) -> dict:
    """Apply what one call handed over, with the host's lock held; what was done, or in check mode would be."""
    if data.get("state") == "present" and (why := closed_component.reason(data["component"])):
        raise OSError(why)
    user = ServiceUser(data["user"], data["home"])
    component = quadlet_component(data, user, check)
    with contextlib.nullcontext(lambda: None) if check else Ledger().changing(data["deploy_lock"]) as still:
        present, ready = data["state"] == "present", traffic_gate.unit_ready
        transaction = Transaction(component, user, present=present, concurrent=concurrent, still=still, unit_ready=ready)
        result = transaction.run(check=check)
        wanted = "post_start_exec" in data and not (data["post_start_exec"]["only_on_change"] and not result["changed"] and is_applied(data))
        if wanted and not check:
            still()
        made = run_post_start(user, data["post_start_exec"]) if wanted and not check else []
        if not check:
            save_applied(data)
    return {**result, "changed": result["changed"] or bool(made), "plan": [*result["plan"], *(f"change {what}" for what in made)]}


def run_post_start(user: ServiceUser, wanted: dict) -> list[str]:
    """Run a script in a container, by standard input, which no process list shows; what it says that it changed."""
    result = user.podman("exec", "--interactive", wanted["container"], "sh", "-s", stdin=wanted["script"], check=False)
    if result.returncode:
        said = result.stderr.strip()
        for word in wanted["redact"]:
            said = said.replace(word, "********")
        raise ApplyError(f"{wanted['error_prefix']}: {said}", [])
    return [untrusted.plain(line.removeprefix("changed: ")) for line in result.stdout.split("\n") if line.startswith("changed: ")]


class ConcurrentApply:
    """Components handed over with another one. Each is applied by a process of its own, which holds the host's lock as well:
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
                result = {"msg": f"the concurrent process ended with {process.returncode}: {complaint.strip()[-500:]}"}
            self.plan += result.get("plan", [])
            self.changed |= result.get("changed", False)
            troubles += [result["msg"]] if "msg" in result else []
        self.running = []
        return "\n".join(troubles)


def apply_or_error(data: dict, **arguments) -> dict:
    """What `apply` answers; what it refuses as `msg`, with the plan. `host_not_prepared` where the host lacks what roles before this one bring,
    `busy` where another has the deploy lock."""
    try:
        return apply(data, **arguments)
    except ApplyError as error:
        return {"msg": str(error), "plan": error.plan}
    except LockHeld as error:
        return {"msg": f"{data['component']}: {error}", "plan": [], "busy": error.holder}
    except LookupError as error:
        return {"msg": f"{data['component']}: {error}", "host_not_prepared": True}
    except (CommandError, OSError) as error:
        return {"msg": f"{data['component']}: {error}"}


def main(payload: str) -> None:
    """The concurrent process: apply what was handed over, and print the result as JSON."""
    result = apply_or_error(json.loads(base64.b64decode(payload)))
    print(json.dumps({key: result[key] for key in ("msg", "plan", "changed") if key in result}))
