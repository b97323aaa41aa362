"""What a reload cannot change restarts nginx, and nobody is refused meanwhile."""

from releases import SETTINGS
from traffic import Traffic

UNIT = "/etc/systemd/system/nginx.service.d/senex.conf"


def test_a_changed_unit_restarts_nginx_and_no_request_fails(stack):
    stack.play(tags="nginx", variables=SETTINGS).expect()
    main = stack.nginx()[0]
    stack.sh(f"sed -i /^LockPersonality=/d {UNIT}")
    with Traffic(stack, rate=50, sockets=10, limit=120) as traffic:
        run = stack.play(tags="nginx", variables=SETTINGS).expect()
    assert f"install {UNIT}" in "\n".join(run.plan) and "/etc/nginx/senex/restart.sh" in run.plan, run.plan
    assert stack.nginx()[0] != main
    result = traffic.result()
    assert not result.failures and not result.sockets.failures, (result.failures[:5], result.sockets.failures[:5])
    assert result.slowest > 1, "nobody came while it restarted"
    assert "senex_restart" not in stack.sh("nft list tables")
    # What was put right stays in the manifest: this is not the file of before, and `restored` would not do
    stack.play(tags="nginx").expect()
    stack.ready()
