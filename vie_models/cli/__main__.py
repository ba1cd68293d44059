"""Runs `vie` as `python -m vie_models.cli`, which torchrun needs."""

import sys

from . import main

sys.exit(main())
