from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from probe.models import Heartbeat


class Command(BaseCommand):
    help = "Exit status 1 when the newest heartbeat is older than --max-age seconds, or there is none."
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_argument("--max-age", type=float, default=60)

    def handle(self, *, max_age, **options):
        newest = Heartbeat.objects.order_by("-time").first()
        if newest is None:
            raise CommandError("no heartbeat yet")
        age = (timezone.now() - newest.time).total_seconds()
        if age > max_age:
            raise CommandError(f"the newest heartbeat is {age:.0f} s old, more than {max_age:.0f} s")
        self.stdout.write(f"{age:.0f} s")
