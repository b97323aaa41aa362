import signal
from pathlib import Path

import redis
from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Writes what comes in the list `inbox` into a file, one line each, until it is told to stop"

    def handle(self, *args, **options):
        self.stop = False
        signal.signal(signal.SIGTERM, self.end)
        connection = redis.Redis.from_url(settings.INBOX, decode_responses=True)
        # What was taken and not written when the process was killed is still in the second list
        while not self.stop:
            text = connection.lrange("taken", 0, 0)[:1] or [connection.blmove("inbox", "taken", 2, "LEFT", "RIGHT")]
            if text[0] is None:
                continue
            with open(Path(settings.DATA, "inbox"), "a", encoding="utf-8") as file:
                file.write(text[0] + "\n")
            connection.lpop("taken")

    def end(self, *_):
        self.stop = True
