#!/usr/bin/python
"""Documentation and argument specification of senex.trader.quadlet; its action plugin does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: quadlet
short_description: One component of the service user's stack, in one transaction
description:
  - Renders a component's Quadlet units, user units, configuration and secret files on the controller, and makes one module call.
  - Where nothing differs and everything runs and is healthy, nothing happens.
  - Otherwise the whole set is validated (keys by Podman version, the host's Quadlet generator, C(systemd-analyze --user verify)),
    new images are pulled, files are installed by rename, what an earlier run installed and this one no longer has is removed,
    and the units that read what changed are restarted in the given order, one after the other, each waited for.
  - When a unit does not come up, the files and secrets from before are put back, what was touched runs again,
    and the task fails with the unit's last log lines.
  - A unit reads its own file, managed files under its C(Volume=) and C(EnvironmentFile=), its C(Secret=) and its C(Image=).
options:
  component:
    description: Name of the component; its manifest is C(/var/lib/senex.trader/<component>.json).
    type: str
    required: true
  state:
    description: V(absent) stops the component's units and removes its units, files and secrets. Directories and what is in them stay.
    type: str
    choices: [present, absent]
    default: present
  user:
    description: Name of the service user, who runs the containers.
    type: str
    required: true
  home:
    description: Home of the service user. Relative paths of files and directories start here.
    type: path
    required: true
  files:
    description:
      - "Files of the component. Each has C(src) (with the suffix C(.j2) a template in the role's C(templates), without it a plain file in its C(files); the
        collection's C(templates) come second) or C(content) (text)."
      - "C(dest) is the target, by default the name of C(src) without C(.j2). A name without a directory that ends as a Quadlet unit does (C(.container) and the
        like) goes to C(.config/containers/systemd), one that ends as a unit of systemd does (C(.timer) and the like) to C(.config/systemd/user), all else
        below O(home). An absolute path is taken as it is. No two files may have one target."
      - "C(mode) is octal text (default 0644, 0600 for secrets). C(secret) (bool, default false) never shows the content. C(vars) (dict) is for this template
        only. C(when) (bool, default true) leaves the file out if false."
    type: list
    elements: dict
    default: []
  directories:
    description:
      - Directories with C(path), C(mode) (octal text, default 0755) and C(container_user), C(container_group) (numeric ids inside the user namespace; the
        service user where they are left out).
      - Made and owned once; never re-owned, emptied or removed.
      - "C(data) (dict) protects a directory of data: where an earlier run has seen data and there is none now, nothing is changed. Its C(kind) says what that
        is. C(cluster) is a PostgreSQL cluster, known by its system identifier; another cluster is refused too. C(files) may not be empty. C(uploads)
        may be, but may not leave a file system of their own. C(copies) may do neither."
      - "Further keys of C(data): C(input), the variable that the error says to correct. C(begin), the variable that allows to start with nothing, and C(new)
        (bool), its value. Optionally C(witness), a file that has what was seen; the container's own start refuses an empty directory by it, and a restore or
        an upgrade writes there which cluster comes next."
    type: list
    elements: dict
    default: []
  secrets:
    description:
      - Podman secrets with C(name), and with C(value) or C(file), a file on the host that root reads. Where it has a C(file), the component is compared on the
        host in each run.
      - "C(no_restart_on_change) (bool, default false): a new value restarts no unit; the script of O(post_start_exec) brings it to the running container."
    type: list
    elements: dict
    default: []
  units:
    description:
      - What must run, in start order, each with C(name) (systemd unit). The keys below are optional.
      - "C(run_once_key) (any text): a one-shot unit. It runs when the key, its unit file or its image differ from its last success. A rollback of the
        component does not run it again."
      - "C(readiness_probe) (dict or list of dicts): HTTP requests from the host that must succeed, or the unit is restarted. Keys are C(url), C(headers)
        (dict), C(status) (expected HTTP status, default 200; redirects are not followed) or C(status_below) (every lower status is accepted), and
        C(startup_only) (bool, default false: sent only after a start). When systemd has started a unit, within the C(TimeoutStartSec) of its own, the requests
        have another 30 seconds to succeed; a single one has 10."
      - "C(load_balancer) (dict): nginx sends nothing to the unit while it restarts, until it is ready. Keys are C(contract) (file of role nginx), C(server)
        (address:port in the upstream), C(drain) (seconds that open connections have to end, default 15), and C(pre_stop_hook) (command as a list of words, run
        as the service user if connections are still open after 0.2 seconds)."
      - "C(surge_unit) (unit name): another unit of O(files), not listed in O(units), that is started before this one restarts and does its work meanwhile.
        It is stopped gracefully afterwards, which nobody waits for."
      - "C(parallel_with_previous) (bool, default false): start at the same time as the unit before it in the list."
      - "C(traffic_gate) (dict): during a deploy, fail if the traffic probe has seen too many failed requests once the unit is ready. Keys are
        C(results_file) (of the probe), C(max_failed) (number of requests), and C(evaluate) (C(per_unit), the default, or C(at_end): the caller evaluates)."
      - "C(request_hold) (dict): for a service that the application uses. While it restarts, nginx on this host delays new requests, for 20 seconds at most;
        those under way have 5 seconds to end. Keys are C(contract) (file of role nginx) and commands, each a list of words, that the service user runs:
        C(before) makes the restart short (a checkpoint), C(pause) and C(resume) keep other clients away, C(busy) prints 0 when nobody is being served."
    type: list
    elements: dict
    default: []
  preconditions:
    description:
      - "What must hold on the host, or nothing is changed and C(message) is the error (FOUND in it is the content that was found)."
      - "With C(file) and C(content): if the file exists, it must have this content. If it does not, its directory must be one that a container can fill:
        neither root's nor the top of a file system."
      - "With C(file) and C(keeps) (name of a variable in that environment file): the first of the comma-separated values that the component brings for it
        must be one of those that the file has now."
    type: list
    elements: dict
    default: []
  image_input:
    description: Name of the variable that selects the image, for the error message when that image cannot be pulled.
    type: str
    default: ""
  images:
    description:
      - "Tags that are to name another image of the host from now on: for each image reference the C(id) of that image, and C(previous), the id of the image
        that gets the tag back when a unit does not come up. Both are required. Without it a tag stays with the image that it names, whatever the registry has
        by now."
    type: dict
    default: {}
  deploy_lock:
    description:
      - "During a deploy: C(id) of the lock, as M(senex.trader.release) took it, and C(stage), for a person. The lock on the host is renewed every minute while
        the component is applied. If another process takes the lock, the module fails and changes nothing more."
      - "Without C(id) it is the lock that this run has on the host already. Where it has none, the module takes one for its first change, and fails before it
        where another operation has the lock."
      - "C(pending_record) (dict) is the record that is written to the release history if the deploy dies."
    type: dict
    default: {}
  post_start_exec:
    description:
      - "A script that is run in a container with C(sh -s) when all units are up, in each run. These four keys are required: C(container) (name), C(src) (a
        template), C(error_prefix) (text before the script's own error) and C(redact) (list of words that its output must not show). Not run in check mode."
      - "C(only_on_change) (bool, default false): not run again while the component is unchanged since the script last succeeded."
      - "Each line C(changed: WHAT) that it prints is reported as a change."
    type: dict
    default: {}
  render_only:
    description: Change nothing, and return the component as RV(rendered_component), for O(concurrent_components) of another call.
    type: bool
    default: false
  concurrent_components:
    description:
      - Further components of the same host, each the RV(rendered_component) of a call with O(render_only). The task ends when all have; an error in one of
        them fails the task, and this component stays.
      - O(concurrent_start) says when they start. One is never started if this component fails before.
    type: list
    elements: str
    default: []
  concurrent_start:
    description:
      - V(after_first_ready) starts O(concurrent_components) when the first unit with a C(load_balancer) is ready again, or at the end if none was restarted.
      - V(immediate) starts them together with this component, for an image that has run in production before.
    type: str
    choices: [after_first_ready, immediate]
    default: after_first_ready
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
    component: redis
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
rendered_component:
  description: The component with its secrets, as one base64 word that no log shows.
  returned: with O(render_only)
  type: str
cut:
  description: Units that were stopped although connections to them were still open, each with C(unit) (name) and C(connections) (number).
  returned: when there are any
  type: list
  elements: dict
  sample: [{"unit": "web-1.service", "connections": 2}]
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "component": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
    "files": {"type": "list", "elements": "dict", "default": []},
    "directories": {"type": "list", "elements": "dict", "default": []},
    "secrets": {"type": "list", "elements": "dict", "default": [], "no_log": True},
    "units": {"type": "list", "elements": "dict", "default": []},
    "preconditions": {"type": "list", "elements": "dict", "default": []},
    "image_input": {"type": "str", "default": ""},
    "images": {"type": "dict", "default": {}},
    "deploy_lock": {"type": "dict", "default": {}},
    "post_start_exec": {"type": "dict", "default": {}},
    "render_only": {"type": "bool", "default": False},
    "concurrent_components": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "concurrent_start": {"type": "str", "choices": ["after_first_ready", "immediate"], "default": "after_first_ready"},
}


def main() -> None:
    """Only reached when the action plugin was bypassed."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.fail_json(msg="senex.trader.quadlet works through its action plugin; do not call the module by itself")


if __name__ == "__main__":
    main()
