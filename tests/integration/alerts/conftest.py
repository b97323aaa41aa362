"""On a host of their own with Prometheus: its rules with a short patience, a history, and a sink that keeps the mail."""

import json
from pathlib import Path

import pytest
from monitored import Monitored
from own_host import stack_on

GROUP = str(Path(__file__).with_name("group.yml"))


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    for found in stack_on("alerts"):
        settings = {
            # One host, so PostgreSQL is published for the pooler, which is in no container
            "postgresql_publish_address": found.address, "pgbouncer_pool_size": 10, "pgbouncer_reserve_pool_size": 0,
            "senex_metrics_password": "alerts-metrics-password", "monitoring_interval": 5, "monitoring_mail_to": ["ops@senex.test"],
            "monitoring_mail_from": "monitoring@senex.test", "monitoring_smtp_host": "127.0.0.1", "monitoring_smtp_port": 2525,
            "monitoring_smtp_security": "none", "monitoring_smtp_user": "", "release_websocket_path": "/ws/echo/",
            "senex_redis_cache_instance": True, "nginx_rate_limit_exempt_networks": ["10.203.0.0/24"],
        }  # fmt: skip
        found.play("-i", GROUP, "-e", json.dumps(settings), tags="phase2", timeout=1500).expect()
        yield found


@pytest.fixture(scope="session")
def monitored(stack):
    return Monitored(stack)
