import os
from pathlib import Path

import dj_database_url

SECRET_KEY = Path(os.environ["NOTES_SECRET_FILE"]).read_text(encoding="utf-8").strip()
ALLOWED_HOSTS = os.environ["NOTES_HOSTS"].split(",")
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS]
GREETING = os.environ.get("NOTES_GREETING", "")
DEBUG = False
DATABASES = {"default": dj_database_url.config(conn_max_age=60, conn_health_checks=True)}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "notes"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "notes.urls"
WSGI_APPLICATION = "notes.wsgi.application"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SILENCED_SYSTEM_CHECKS = ["security.W003", "security.W004"]
STATIC_URL = "/assets/"
STATIC_ROOT = "/srv/assets"
MEDIA_URL = "https://bucket.senex.test/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
