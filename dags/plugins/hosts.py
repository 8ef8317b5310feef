"""Which names the API server answers to.

A page of another site can let its own name point to this machine (DNS rebinding), and then a browser sends that page's
requests here. Such a request has the other site's name in its `Host` header.
"""

from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin
from starlette.middleware.trustedhost import TrustedHostMiddleware


def list_hosts() -> list[str]:
    """Return the names of the API server: of this machine, and in the addresses by which users, tasks and workers call it."""
    addresses = [
        conf.get("api", "base_url", fallback=""),
        conf.get("core", "execution_api_server_url", fallback=""),
        conf.get("edge", "api_url", fallback=""),
    ]
    more = conf.get("shoal", "allowed_hosts", fallback="").split(",")
    names = {"localhost", "127.0.0.1", "[::1]", *(urlsplit(address).hostname for address in addresses), *map(str.strip, more)}
    return sorted(filter(None, names))


class Hosts(AirflowPlugin):
    name = "shoal_hosts"
    fastapi_root_middlewares = [  # noqa: RUF012
        {"name": "Host", "middleware": TrustedHostMiddleware, "kwargs": {"allowed_hosts": list_hosts(), "www_redirect": False}}
    ]
