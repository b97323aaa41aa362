"""What the tests of releases share."""

import json

HOLDER = "/var/lib/senex.trader/deploy.lock"
RECORDS = "/var/lib/senex.trader/releases.jsonl"
# The whole test network is one address to nginx otherwise; and the demo application has a WebSocket to watch
SETTINGS = {"nginx_rate_limit_exempt_networks": ["10.203.0.0/24"], "release_websocket_path": "/ws/echo/"}


def release(stack, playbook, timeout=420, **variables):
    """Run deploy.yml, rollback.yml or scale.yml."""
    return stack.play(playbook=f"playbooks/{playbook}.yml", tags="all", variables={**SETTINGS, **variables}, timeout=timeout)


def deploy(stack, tag, **variables):
    return release(stack, "deploy", django_image_tag=tag, **variables)


def records(stack):
    return [json.loads(line) for line in stack.sh(f"cat {RECORDS} 2>/dev/null || true").splitlines()]


def versions(stack, instances=2):
    """What each web instance says it is."""
    return {json.loads(stack.instance(number))["version"] for number in range(1, instances + 1)}


def unlocked(stack):
    return stack.ssh(f"test -e {HOLDER}").returncode != 0


def applied(stack):
    """Names of the application's own migrations in the database."""
    query = "select name from django_migrations where app = 'probe' order by name"
    return stack.user("podman", "exec", "postgres", "psql", "-XqAt", "-U", "senex", "-d", "senex", "-c", query).split()
