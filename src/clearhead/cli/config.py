"""Print all settings as commented TOML, ready to be edited and given to `train --config`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clearhead.cli.arguments import Parser, dotted_flags
from clearhead.cli.terminal import console, print_json


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Print."""
    rest, pairs = dotted_flags(arguments)
    parser.takes_settings = True
    parser.add_argument("--preset", default="modern", help="which preset (modern)")
    parser.add_argument("--config", metavar="FILE", help="settings as TOML, over the preset")
    parser.add_argument("--list", action="store_true", help="name the presets")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(rest)
    from clearhead.core.config import parse_flags, to_dict
    from clearhead.core.toml import load_toml, to_toml
    from clearhead.training.config import override
    from clearhead.training.recipes import RECIPES, recipe

    if args.list:
        presets = {name: (make.__doc__ or "").strip() for name, make in RECIPES.items()}
        if args.json:
            print_json(presets)
        else:
            console().print("\n".join(f"{name:<14} {what}" for name, what in presets.items()))
        return 0
    config = recipe(args.preset)
    if args.config:
        config = override(config, load_toml(Path(args.config)))
    config = override(config, parse_flags(pairs))
    if args.json:
        print_json(to_dict(config))
    else:
        print(to_toml(config), end="")
    return 0
