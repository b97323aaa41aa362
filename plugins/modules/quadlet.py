#!/usr/bin/python
"""Documentation and argument specification of senex.trader.quadlet; its action plugin does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: quadlet
short_description: One part of the service user's stack, in one transaction
description:
  - Renders a part's Quadlet units, user units, configuration and secret files on the controller, and makes one module call.
  - Where nothing differs and everything runs and is healthy, nothing happens.
  - Otherwise the whole set is validated (keys by Podman version, the host's Quadlet generator, C(systemd-analyze --user verify)),
    new images are pulled, files are installed by rename, what an earlier run installed and this one no longer has is removed,
    and the units that read what changed are restarted in the given order, one after the other, each waited for.
  - When a unit does not come up, the files and secrets from before are put back, what was touched runs again,
    and the task fails with the unit's last log lines.
  - A unit reads its own file, managed files under its C(Volume=) and C(EnvironmentFile=), its C(Secret=) and its C(Image=).
options:
  part:
    description: Name of the part; its manifest is C(/var/lib/senex.trader/<part>.json).
    type: str
    required: true
  state:
    description: V(absent) stops the part's units and removes its units, files and secrets. Directories and what is in them stay.
    type: str
    choices: [present, absent]
    default: present
  user:
    description: The service user.
    type: str
    required: true
  home:
    description: The service user's home.
    type: path
    required: true
  files:
    description:
      - "Files of the part. Each has C(src) (a template, or a plain file without the suffix C(.j2)) or C(content); C(dest) (default the name of the template;
        C(*.container) and the like go to C(.config/containers/systemd), C(*.timer) and the like to C(.config/systemd/user), all else below the home);
        C(mode) (default 0644, 0600 for secrets); C(secret) (content never shown); C(vars) for this file alone; C(when) (false leaves the file out)."
    type: list
    elements: dict
    default: []
  directories:
    description:
      - Directories with C(path), C(mode) (default 0755) and C(container_user), C(container_group) (ids inside the user namespace).
      - Made and owned once; never re-owned, emptied or removed.
      - "C(data) says that its content is never begun anew unasked: C(kind) (C(cluster), C(files), C(copies) or C(uploads)), C(input) and C(begin),
        the variables that a refusal names, C(new), whether it is asked for now, and perhaps C(witness), a file that tells the unit's start."
    type: list
    elements: dict
    default: []
  secrets:
    description:
      - Podman secrets with C(name) and C(value), or C(file), a file on the host that root reads.
      - One that is C(live) restarts nothing when it changes; what runs learns of it from the script O(inside).
    type: list
    elements: dict
    default: []
  units:
    description:
      - What must run, in start order, each with C(name).
      - One with C(run_once_key) is a one-shot that runs when the key, its unit or its image differ from its last success.
      - "C(answers) is what the host's side of a published port must say, one or a list: C(url), C(headers), and C(status) (default 200) or
        C(below), which takes every lower one. A unit that does not is restarted. One with C(once) is asked only after a start."
      - "C(rotation) is the line of an nginx upstream (C(file), C(server)) that is marked down while the unit restarts, until it answers.
        Before the unit stops, nginx's connections to it have C(drain) seconds (default 15) to end. C(notice) is a command line that the service user
        runs meanwhile when some do not end within half a second."
      - "C(stand_in) is another unit of the part's files, not among its units, that runs while this one restarts. It is then told to stop, and not waited for."
      - A unit with C(meanwhile) set is brought up at the same time as the one before it.
      - "C(probe) is the state C(file) of a release's prober and C(failed), how many of its requests may have failed once the unit serves;
        with C(later) the caller looks at that."
      - "C(hold) is for a service that the application asks. While it restarts, nginx of this host holds requests back, by the C(contract) of role nginx,
        for 20 s at most: first those under way end (5 s at most). With command lines of the service user: C(before) makes the restart short, C(pause) and
        C(resume) are for who else asks it, and C(busy) prints 0 when nobody does."
    type: list
    elements: dict
    default: []
  guards:
    description:
      - "Files of the host (C(file)) that, where they exist, must hold C(content)."
      - "With C(keeps), a name, the file is one of the environment that the part brings: the first of the values, with commas between, that it has for that name
        must be one of those that the file has now."
      - "Otherwise nothing is done and C(message) is the error (FOUND in it is the content)."
      - "Where one does not exist, its directory must be one that a container can fill: neither root's nor the top of a file system."
    type: list
    elements: dict
    default: []
  image_input:
    description: Name of the variable that says which image the part runs, for the message when that image cannot be pulled.
    type: str
    default: ""
  lease:
    description:
      - "During a release: C(id) of the release and C(at), the stage. The lock on the host is renewed with them; a lock that is lost stops everything."
      - C(about) is the record that is written should the release die.
    type: dict
    default: {}
  inside:
    description:
      - "A script that is run in a container with C(sh -s) when all units are up, each time: C(container), C(src) (a template), C(trouble) (what to say
        when it fails) and C(redact) (words that its output must not show)."
      - One with C(once) is not run again while the part is just as it was when the script last ended well.
      - It says C(changed:) and what, a line each, for what it changed. Not run in check mode.
    type: dict
    default: {}
  hold:
    description: Change nothing, and answer with the part as RV(held), for the call that takes it in O(beside).
    type: bool
    default: false
  beside:
    description:
      - Other parts of the same host, as RV(held) of calls with O(hold). Each is applied as soon as the first unit with a C(rotation) serves again
        (at the end, where none was touched), while this part goes on. The task ends when all have; what fails there fails the task, and this part stays.
      - A part that fails before that first unit serves leaves them untouched.
    type: list
    elements: str
    default: []
  beside_at_once:
    description: Begin with those of O(beside) at the same time as with this part, where nothing has to be proven first.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Shows the same plan, validates the units, changes nothing.
  diff_mode:
    support: full
    description: Shows every file but the secret ones.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Put Redis in place
  senex.trader.quadlet:
    part: redis
    user: senex
    home: /opt/senex-trader
    files:
      - src: redis.container.j2
      - src: redis.conf.j2
        dest: config/redis/redis.conf
    directories:
      - path: data/redis
        mode: "0700"
        container_user: 999
    secrets:
      - name: redis_password
        value: "{{ redis_password }}"
    units:
      - name: redis.service
"""
RETURN = r"""
plan:
  description: What was done, or would be done in check mode, a line each.
  returned: always
  type: list
  elements: str
  sample: ["install /opt/senex-trader/config/redis/redis.conf", "restart redis.service (what it reads has changed)"]
held:
  description: The part with its secrets, which no log shows.
  returned: with O(hold)
  type: str
cut:
  description: Units that stopped before all connections to them had ended, each with C(unit) and C(connections).
  returned: when there are any
  type: list
  elements: dict
  sample: [{"unit": "web-1.service", "connections": 2}]
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "part": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
    "files": {"type": "list", "elements": "dict", "default": []},
    "directories": {"type": "list", "elements": "dict", "default": []},
    "secrets": {"type": "list", "elements": "dict", "default": [], "no_log": True},
    "units": {"type": "list", "elements": "dict", "default": []},
    "guards": {"type": "list", "elements": "dict", "default": []},
    "image_input": {"type": "str", "default": ""},
    "lease": {"type": "dict", "default": {}},
    "inside": {"type": "dict", "default": {}},
    "hold": {"type": "bool", "default": False},
    "beside": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "beside_at_once": {"type": "bool", "default": False},
}


def main() -> None:
    """Only reached when the action plugin was bypassed."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.fail_json(msg="senex.trader.quadlet works through its action plugin; do not call the module by itself")


if __name__ == "__main__":
    main()
