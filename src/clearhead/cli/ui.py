"""Open the page in the browser: train, watch, write, and look inside; on this machine alone, without a network."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from clearhead.cli.arguments import Parser, whole
from clearhead.cli.terminal import console
from clearhead.core.errors import UserError
from clearhead.core.extras import is_installed


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Serve the page until Ctrl-C."""
    add = parser.add_argument
    add("runs", nargs="?", metavar="RUNS", help="the folder of the runs (./runs)")
    add("--port", type=whole, default=8421, metavar="N", help="where the page is served (8421)")
    add("--no-open", action="store_true", help="do not open the browser")
    args = parser.parse(arguments)
    from clearhead.core.run import runs_folder

    if not is_installed("nicegui"):
        raise UserError("The page needs one more library; type pip install 'clearhead[ui]'.")
    require_free_port(args.port)
    from clearhead.serve.page.app import serve

    folder = Path(args.runs) if args.runs else runs_folder()
    console().print(f"Serving {folder} at http://127.0.0.1:{args.port} for this machine alone. Ctrl-C ends it.")
    serve(folder, args.port, open_browser=not args.no_open)
    return 0


def require_free_port(port: int) -> None:
    """Refuse a port that something else listens at."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise UserError(f"Port {port} cannot be used; choose another: --port {port + 1}.") from None
