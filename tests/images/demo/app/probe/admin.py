from django.contrib import admin

from probe.models import Heartbeat, Row, TaskRun

admin.site.register([Heartbeat, Row, TaskRun])
