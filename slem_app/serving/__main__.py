"""`python -m slem_app.serving --studies DIR`: the server, as `slem serve` starts it.

What uvicorn's defaults leave open is set for a server that strangers can reach: limits of connections, no
WebSockets, an end to waiting when the server is told to end, and no proxy believed that was not named.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from slem_app.serving.http.connections import Limits, limited, raise_open_files
from slem_app.serving.log import log_config
from slem_app.serving.settings import Settings, parse_settings

__all__ = ["main"]

ENDING = 6  # seconds that requests under way have when the server is told to end; then it ends by force
LEVELS = ("debug", "info", "warning", "error")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m slem_app.serving", description="Serve studies.")
    made.add_argument("--studies", required=True, help="folder of studies, or the address of a PACS")
    made.add_argument("--host", default="127.0.0.1", help="address to listen at")
    made.add_argument("--port", type=int, default=8000, help="TCP port")
    made.add_argument(
        "--conf",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a setting of the server",
    )
    made.add_argument("--logs", type=Path, required=True, help="folder of the log `app.log`")
    made.add_argument("--log-level", default="info", choices=LEVELS)
    made.add_argument("--ssl-certfile", help="certificate, for https")
    made.add_argument("--ssl-keyfile", help="its private key")
    made.add_argument("--root-path", default="", help="path under which a proxy offers the server")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is told to end.

    Raises:
        BadSetting: an unknown setting.
    """
    given = parser().parse_args(arguments)
    conf = dict(given.conf)
    settings = parse_settings(conf)
    # takes seconds to import: a wrong setting is said before
    from slem_app.serving.asgi import application

    file = given.logs / "app.log"
    uvicorn.run(
        application(given.studies, conf, given.host, file),
        host=given.host,
        port=given.port,
        root_path=given.root_path,
        http=limited(limits_of(settings, raise_open_files())),
        ws="none",
        log_level=given.log_level,
        log_config=log_config(file, given.log_level, settings.log),
        access_log=False,
        server_header=False,
        ssl_keyfile=given.ssl_keyfile,
        ssl_certfile=given.ssl_certfile,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        timeout_graceful_shutdown=ENDING,
    )


def limits_of(settings: Settings, files: int) -> Limits:
    """What connections may cost a process that may have so many open files: half of them."""
    most = max(10, min(Limits.all_connections, files // 2))
    return Limits(connections=min(settings.connections, most), all_connections=most, exempt=settings.proxies)


if __name__ == "__main__":
    main()
