from __future__ import annotations

import argparse

from . import __doc__ as about
from . import decode, encoders, extract, forward, gpu, kmeans, load, search, train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=about, formatter_class=_Raw)
    commands = parser.add_subparsers(required=True)
    for module in (forward, extract, encoders, train, load, decode, kmeans, search, gpu):
        name = module.__name__.split(".")[-1]
        command = commands.add_parser(
            name, help=module.__doc__.splitlines()[0], description=module.__doc__, formatter_class=_Raw
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args()
    options.run(options)


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
