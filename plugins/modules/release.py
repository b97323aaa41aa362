#!/usr/bin/python
"""Lock, record and preparation of a release on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Lock, record and preparation of a release on one host
description:
  - The order of the steps is in C(playbooks/deploy.yml); this module carries them out on a host. The lock lies in C(/var/lib/senex.trader/deploy.lock),
    the records, one line of JSON a release, in C(/var/lib/senex.trader/releases.jsonl).
  - A step renews the lock every minute for as long as it takes.
  - A lock whose controller process is dead on this controller is taken over at once, any other after
    O(lease) without a sign of life. One of another
    PID namespace (a job container) cannot be seen to be dead.
  - While it is held the collection's modules change nothing on the host for anybody who has not its id, and nothing for one who has lost it.
options:
  step:
    description:
      - C(renew) is a sign of life on a host where no step lasts meanwhile; it fails where the lock was lost.
      - C(begin) takes the lock and brings the image, C(finish) writes the record and gives the lock up, C(list) reads the records.
      - C(load) makes sure that the image of O(archive) is here as O(image).
      - C(plan) runs the plan script in the image, C(dump) makes the backup before the release.
      - C(close) has nginx show the maintenance page, and waits for the requests that are in; C(open) ends that, and says how long it was.
      - C(undo) runs a script in the image that takes migrations back.
      - C(vault) keeps how far the rotations of the vault are, before its values are put in place here.
      - C(run) runs the command O(argv) under the lock, however long it takes, and ends it when somebody else takes the lock over.
    type: str
    choices: [begin, renew, finish, list, load, plan, undo, dump, vault, run, close, open]
    required: true
  id:
    description: Id of the release or operation; the lock is held under it.
    type: str
    default: ""
  argv:
    description: With C(run), the command; its result is as that of C(ansible.builtin.command).
    type: list
    elements: str
    default: []
  stdin:
    description: With O(step=run), standard input of the command. It is not logged.
    type: str
    default: ""
  what:
    description: Name of the operation for a person, such as C(deploy of 1.2). With O(step=run) and O(step=renew), the name of the stage.
    type: str
    default: ""
  identity:
    description: With O(step=begin), user, machine and process that ask for the lock; filled in by the action plugin.
    type: dict
    default: {}
  collection:
    description: With C(begin), the version of the collection that asks, and whether the host may have a newer one's; filled in by the action plugin.
    type: dict
    default: {}
  rotations:
    description: With O(step=vault), for each secret the moment and the number of the stage (filter C(rotation_states)).
    type: dict
    default: {}
  take_over:
    description: With O(step=begin), id of a holder whose lock is taken over because its process is dead, or C(any).
    type: str
    default: ""
  lease:
    description: With O(step=begin), seconds after the last renewal until the lock expires; 0 means 1800.
    type: float
    default: 0
  wait:
    description: With O(step=begin), seconds to wait for a lock that another run holds. Its holder is shown.
    type: float
    default: 0
  archive:
    description: With C(begin) or C(load), image archive on the controller that takes the place of the registry; empty for the registry.
    type: str
    default: ""
  wanted:
    description: What the archive holds; filled in by the action plugin.
    type: dict
    default: {}
  source:
    description: The archive's copy on the host; filled in by the action plugin.
    type: str
    default: ""
  record:
    description: With C(finish), what the record holds beside id, begin and duration, or all of it with another release's id; empty writes none.
    type: dict
    default: {}
  user:
    description: Name of the service user.
    type: str
    default: senex
  home:
    description: Home of the service user.
    type: path
    default: /opt/senex-trader
  image:
    description: With O(step=begin), reference of the image to pull; empty on a host that does not run it.
    type: str
    default: ""
  kept:
    description: With O(step=begin), whether an image that is on the host already is used without asking the registry, as a rollback does.
    type: bool
    default: false
  traffic_probe:
    description: "With C(begin), on the host of nginx: what its users ask for from now on, as M(senex.trader.traffic_probe) takes it, and
      ready_path (empty for none) with ready_timeout (s). Empty starts no prober. With C(close), how nginx is asked for the page, with the path
      alive and drain, the seconds that requests have to end."
    type: dict
    default: {}
  migrations:
    description: With O(step=close), migrations that are about to be applied; they are kept with the page, for a run that comes after one that died.
    type: list
    elements: str
    default: []
  container:
    description: "With C(plan) and C(undo): image, network, further environment, timeout (s). Mounts, environment, limits and rights are those of the unit
      release.service; the action plugin renders it for this image."
    type: dict
    default: {}
  script:
    description: With O(step=plan) and O(step=undo), Python code that C(manage shell) runs in the image.
    type: str
    default: ""
  database:
    description: With C(dump), name and role of the database, and how many dumps of this reason stay.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: What was released here
  senex.trader.release:
    step: list
  register: history
"""
RETURN = r"""
undone:
  description: With C(undo), the migrations that were taken back, also where it failed; C(back) names those that were before.
  returned: undo
  type: list
  elements: str
newest:
  description: With C(begin), the record of the last release that ended well, which may have been under way when the run began.
  returned: begin
  type: dict
closed:
  description: With C(begin), whether a release closed the site here and has not opened it.
  returned: begin
  type: bool
seconds:
  description: With C(open), for how long the site was closed.
  returned: open
  type: float
theirs:
  description: With C(open), whether the page was there before the release, and stays.
  returned: open
  type: bool
held:
  description: With C(finish), whether the lock was this one's until now; a record is written under it alone.
  returned: finish
  type: bool
records:
  description: With C(list), every record, oldest first.
  returned: list
  type: list
  elements: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import pre_deploy
from ansible_collections.senex.trader.plugins.module_utils.release import maintenance, release_steps, traffic_probe_unit

STEPS = ["begin", "renew", "finish", "list", "load", "plan", "undo", "dump", "vault", "run", "close", "open"]
ALONE = ("begin", "renew", "finish", "list", "vault", "run", "close", "open")  # without the service user
ARGUMENTS = {
    "step": {"type": "str", "required": True, "choices": STEPS},
    "argv": {"type": "list", "elements": "str", "default": []},
    "stdin": {"type": "str", "default": "", "no_log": True},
    "id": {"type": "str", "default": ""},
    "what": {"type": "str", "default": ""},
    "identity": {"type": "dict", "default": {}},
    "collection": {"type": "dict", "default": {}},
    "rotations": {"type": "dict", "default": {}},
    "take_over": {"type": "str", "default": ""},
    "lease": {"type": "float", "default": 0},
    "wait": {"type": "float", "default": 0},
    "archive": {"type": "str", "default": ""},
    "wanted": {"type": "dict", "default": {}},
    "source": {"type": "str", "default": ""},
    "record": {"type": "dict", "default": {}},
    "user": {"type": "str", "default": "senex"},
    "home": {"type": "path", "default": "/opt/senex-trader"},
    "image": {"type": "str", "default": ""},
    "kept": {"type": "bool", "default": False},
    "traffic_probe": {"type": "dict", "default": {}},
    "migrations": {"type": "list", "elements": "str", "default": []},
    "container": {"type": "dict", "default": {}},
    "script": {"type": "str", "default": ""},
    "database": {"type": "dict", "default": {}},
}


def ledger_step(given: dict) -> dict:
    """Steps that need the lock and the records, and no service user."""
    ledger = Ledger()
    match given["step"]:
        case "begin":
            dead = ledger.begin({**given["identity"], "id": given["id"], "what": given["what"]}, given["take_over"], given["collection"])
            pulled = user_step(given, ledger) if given["image"] else {}
            if given["traffic_probe"]:
                traffic_probe_unit.start(given["traffic_probe"])
            return {**pulled, "changed": True, "taken_over": dead, "newest": ledger.newest(), "closed": bool(maintenance.notes())}
        case "renew":
            ledger.renew(given["id"], given["what"])
            return {"changed": False}
        case "vault":
            ledger.renew(given["id"], given["what"])
            ledger.rotations.note({"rotations": given["rotations"]}, lower=False)
            return {"changed": False}
        case "finish":
            held = ledger.finish(given["id"], given["record"] or None)
            return {"changed": held, "held": held}
        case "run":
            return run(given, ledger)
        case "close":
            with ledger.heartbeat(given["id"], "close"):
                return {"changed": True, **maintenance.close(given["id"], given["migrations"], given["traffic_probe"])}
        case "open":
            ledger.renew(given["id"], "open")
            return {"changed": True, **maintenance.reopen()}
        case _:
            return {"changed": False, "records": ledger.records(), "holder": ledger.holder()}


def user_step(given: dict, ledger: Ledger) -> dict:
    """Steps that need the service user, under a lock that is held."""
    if given["id"]:
        with ledger.heartbeat(given["id"], "pull" if given["step"] == "begin" else given["step"]):
            return work(given)
    return work(given)


def work(given: dict) -> dict:
    """What the service user does."""
    user = ServiceUser(given["user"], given["home"])
    user.check_manager()
    match given["step"]:
        case "begin":
            return release_steps.pull(user, given["image"], given["kept"])
        case "load":
            return release_steps.load(user, given["image"], given["wanted"], given["source"])
        case "plan":
            return {"changed": False, "plan": release_steps.plan(user, given["container"], given["script"])}
        case "undo":
            found = release_steps.undo(user, given["container"], given["script"])
            return {"changed": bool(found["undone"]), "undone": found["undone"], "back": found["back"],
                    "trouble": release_steps.undo_failure(found) if found["failed"] else ""}  # fmt: skip
        case _:
            wanted = given["database"]
            where = (user, wanted["name"], wanted["role"])
            place, container = os.path.join(given["home"], "backups/postgresql"), wanted["container"]
            dump = pre_deploy.dump(*where, place, int(wanted["keep"]), container) if wanted["dump"] else None
            return {"changed": True, "dump": dump, **pre_deploy.restore_point(*where, given["id"], container)}


def run(given: dict, ledger: Ledger) -> dict:
    """A command under the lock; it does not go on when the lock is another's."""
    ledger.renew(given["id"], given["what"])
    running: list = []
    with ledger.heartbeat(given["id"], given["what"], lost=lambda: [process.terminate() for process in running]):
        done = untrusted.told(given["argv"], given.get("stdin"), began=running.append)
    ledger.renew(given["id"], given["what"])
    return {"changed": True, "rc": done.returncode, "stdout": done.stdout.strip(), "stderr": untrusted.lines(done.stderr.strip())}


def main() -> None:
    """Run one step; fails when the lock is held by another run or was lost."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=False)
    given = module.params
    try:
        answer = ledger_step(given) if given["step"] in ALONE else user_step(given, Ledger())
    except LockHeld as busy:
        module.exit_json(changed=False, busy=busy.holder, message=str(busy))
    except (LookupError, OSError, CommandError, ValueError) as error:
        ended = {"rc": 1, "stdout": "", "stderr": untrusted.lines(error)} if given["step"] == "run" else {}
        module.fail_json(msg=untrusted.lines(error), **ended)
    if answer.get("rc"):
        said = answer["stderr"] or answer["stdout"] or ("it was killed" if answer["rc"] < 0 else "it said nothing")
        module.fail_json(msg=untrusted.lines(f"{given['what'] or given['argv'][0]}: ended with {answer['rc']}: {said}"), **answer)
    if answer.get("trouble"):
        module.fail_json(msg=untrusted.lines(answer["trouble"]), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
