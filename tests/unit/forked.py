"""Runs of Ansible's commands by a process that has imported Ansible already, which is most of what a short run costs.

There is one such process for each command, environment and directory, for Ansible reads its settings while it is imported. Each run is a fork of it with
words, files and a place for temporary files of its own: no run sees what another one did. Whoever wants to send a signal to a run starts a real one.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

# What a run may have of its own, for nothing looks at it while Ansible is imported
OWN = ("STUB_", "PODMAN_", "PYTEST_")
SERVERS = {}
# Of these processes, at 60 MB each; the one that was not asked for longest ends for another
MOST = 3


def run(argv, cwd, environment):
    """As subprocess.run() of ansible-playbook or ansible-vault, with nothing to read and its output as text."""
    argv = [str(word) for word in argv]
    # A fork of this process has no answer to wait for from what this one started
    key = (os.getpid(), argv[0], str(cwd), *sorted(item for item in environment.items() if not item[0].startswith(OWN)))
    if key not in SERVERS:
        # The name of the command is for vault-client, which looks who asks it
        words = [sys.executable, __file__, argv[0]]
        SERVERS[key] = subprocess.Popen(words, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    server = SERVERS[key] = SERVERS.pop(key)
    end([old for old in SERVERS if old[0] == key[0]][:-MOST])
    with tempfile.TemporaryDirectory() as place:
        server.stdin.write(json.dumps([argv, environment, place]) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, f"the process of {argv[0]} ended"
        said = [pathlib.Path(place, name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(argv, int(answer), *said)


def end(keys):
    for key in keys:
        with contextlib.suppress(OSError):
            SERVERS.pop(key).communicate()


atexit.register(lambda: end([key for key in SERVERS if key[0] == os.getpid()]))


def serve(name):
    from ansible import constants

    kind = name.removeprefix("ansible-")
    command = getattr(importlib.import_module(f"ansible.cli.{kind}"), f"{kind.title()}CLI")
    if kind == "playbook":
        load()
    gc.collect()
    gc.freeze()
    gc.disable()  # a run ends before there is much to collect
    # A directory that Ansible made for this process alone, and removes at its end
    local = pathlib.Path(constants.DEFAULT_LOCAL_TMP)
    for line in sys.stdin:
        argv, environment, place = json.loads(line)
        child = os.fork()
        if not child:
            begin(argv, environment, place)
            constants.DEFAULT_LOCAL_TMP = tempfile.mkdtemp(prefix=f"ansible-local-{os.getpid()}", dir=local.parent)
            atexit.register(shutil.rmtree, constants.DEFAULT_LOCAL_TMP, ignore_errors=True)
            command.cli_executor(argv)  # ends the process
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def load():
    """What each run of a playbook loads at its start, most of what is left of a short one: what Ansible brings, and what this environment names."""
    from ansible import cli
    from ansible.plugins import loader

    loader.init_plugin_loader()
    cli.init_plugin_loader = lambda *_: None  # the second time would be a warning
    # Not those of variables, whose loader must be asked once: group_vars would be left out
    for name in ("callback", "connection", "shell", "become", "inventory", "strategy"):
        list(getattr(loader, f"{name}_loader").all(class_only=True))
    for name in ("filter", "test"):
        list(getattr(loader, f"{name}_loader").all())
    importlib.import_module("ansible_collections.ansible.builtin")


def begin(argv, environment, place):
    """Make a fork one's own process."""
    atexit._clear()  # it would remove what is of the process above
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate((os.devnull, f"{place}/stdout", f"{place}/stderr")):
        handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.argv = argv


if __name__ == "__main__":
    serve(sys.argv[1])
