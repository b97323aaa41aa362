"""Does something when a playbook comes to a moment: a play, the how-manieth of its name, a host, a task. For tests of what a run meets on its way.

SENEX_MOMENT is JSON: play, round (from 1), host, task (a regular expression; the first task where it is left out), and what is done then: `command` runs
here, and `signal` goes to the run itself and all that it has started. That is before the task is sent to its host, and the run waits for it; or `later`,
in seconds, while the run goes on. The file `mark` is made first. SENEX_MOMENTS names a file that gets a line of each task that is sent to a host.
"""

import json
import os
import re
import subprocess

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: senex_moment
type: aggregate
short_description: does something at a moment of a run
description: for tests
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "senex_moment"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.wanted = json.loads(os.environ.get("SENEX_MOMENT") or "null")
        self.log = os.environ.get("SENEX_MOMENTS")
        self.play, self.rounds = "", {}

    def v2_playbook_on_play_start(self, play):
        self.play = play.get_name()
        self.rounds.setdefault(self.play, []).append(play._uuid)

    def v2_runner_on_start(self, host, task):
        """Called before the task is handed to the process that sends it."""
        known = list(dict.fromkeys(self.rounds.get(self.play, [])))  # a play that goes host by host begins several times
        if self.log:
            with open(self.log, "a", encoding="utf-8") as out:
                out.write(f"{self.play} | {len(known)} | {host.name} | {task.get_name()}\n")
        wanted = self.wanted
        if not wanted or (self.play, len(known), host.name) != (wanted["play"], wanted.get("round", 1), wanted["host"]):
            return
        if not re.search(wanted.get("task") or "", task.get_name()):
            return
        self.wanted = None
        with open(wanted["mark"], "w", encoding="utf-8") as out:
            out.write(task.get_name())
        if wanted.get("later"):
            # In a session of its own: a signal to the run is not for it
            words = wanted.get("command") or ["kill", f"-{wanted['signal']}", "--", f"-{os.getpgrp()}"]
            subprocess.Popen(["sh", "-c", 'sleep "$0"; exec "$@"', str(wanted["later"]), *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        elif wanted.get("command"):
            subprocess.run(wanted["command"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=60)
        else:
            os.killpg(os.getpgrp(), wanted["signal"])
