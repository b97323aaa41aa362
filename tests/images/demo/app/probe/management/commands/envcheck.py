import hashlib
import os

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Prints the SHA-256 of an environment variable's value: shows that a secret arrived intact without showing it."
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_argument("name")

    def handle(self, *, name, **options):
        value = os.environb.get(os.fsencode(name))
        if value is None:
            raise CommandError(f"{name} is not in the environment")
        self.stdout.write(hashlib.sha256(value).hexdigest())
