"""gunicorn's configuration: the arbiter publishes the settings, and publishes them again when the file changes.

gunicorn --config gunicorn_publisher.py --workers 4 gunicorn_app:app
"""

from typing import Any

from shmsync.publisher import Publisher

publisher = Publisher("settings", "settings.toml")


def when_ready(server: Any) -> None:
    publisher.start()


def on_exit(server: Any) -> None:
    publisher.stop()
