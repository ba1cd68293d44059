"""`python -m vie_models.cli`, for torchrun."""

import sys

from . import main

sys.exit(main())
