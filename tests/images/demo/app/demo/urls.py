from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from probe import api, health, pages

urlpatterns = [
    path("", pages.index),
    path("version/", pages.version),
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("health/simple/", health.simple),
    path("health/", health.full),
    path("api/health-switch/", health.switch),
    path("api/tasks/", api.tasks),
    path("api/tasks/<str:task_id>/", api.task),
    path("api/ledger/", api.ledger),
    path("api/rows/", api.rows),
    path("api/slow/", api.slow),
    path("api/broadcast/", api.broadcast),
    path("api/heartbeat/", api.heartbeat),
    path("api/client/", api.client),
]
