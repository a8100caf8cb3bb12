"""`python -m slem_app.serving.monai start_server --app apps/slem --studies DIR`: MONAI Label's command line.

What it leaves to uvicorn's defaults is set for a server that strangers can reach: limits of connections, no
WebSockets, an end to waiting when the server is told to end, and no proxy believed that was not named.
"""

from __future__ import annotations

import argparse

import uvicorn
from monailabel.main import Main
from monailabel.utils.others.generic import init_log_config

from slem_app.serving.http.connections import Limits, limited, raise_open_files
from slem_app.serving.log import log_config
from slem_app.serving.settings import Settings, parse_settings

__all__ = ["Server"]

APP = "slem_app.serving.asgi:app"
ENDING = 6  # seconds that requests under way have when the server is told to end; then it ends by force


class Server(Main):
    """MONAI Label's command line; its action `start_server` serves our application."""

    def args_start_server(self, parser: argparse.ArgumentParser) -> None:
        super().args_start_server(parser)
        parser.set_defaults(uvicorn_app=APP)

    def action_start_server(self, args: argparse.Namespace) -> None:
        """Serve until the process is told to end.

        Raises:
            BadSetting: an unknown setting.
        """
        settings = parse_settings({pair[0]: pair[1] for pair in args.conf or ()})
        self.start_server_validate_args(args)
        self.start_server_init_settings(args)
        log = log_config(init_log_config(args.log_config, args.app, "app.log", args.verbose), settings.log)
        if args.dryrun:
            return
        uvicorn.run(
            args.uvicorn_app,
            host=args.host,
            port=args.port,
            root_path=args.root_path,
            http=limited(limits_of(settings, raise_open_files())),
            ws="none",
            log_level=args.log_level,
            log_config=log,
            access_log=args.access_log,
            server_header=False,
            ssl_keyfile=args.ssl_keyfile,
            ssl_certfile=args.ssl_certfile,
            ssl_keyfile_password=args.ssl_keyfile_password,
            ssl_ca_certs=args.ssl_ca_certs,
            limit_concurrency=args.limit_concurrency,
            proxy_headers=bool(settings.proxies),
            forwarded_allow_ips=list(settings.proxies),
            timeout_graceful_shutdown=ENDING,
        )


def limits_of(settings: Settings, files: int) -> Limits:
    """What connections may cost a process that may have so many open files: half of them."""
    most = max(10, min(Limits.all_connections, files // 2))
    return Limits(connections=min(settings.connections, most), all_connections=most, exempt=settings.proxies)


if __name__ == "__main__":
    Server().run()
