"""Exit codes of `vie`."""

import os

EXIT_FAILED = 1
"""The job failed."""
EXIT_USAGE = 2
"""The arguments are wrong."""
EXIT_SOME_FAILED = 3
"""The job is done, but some videos failed or are damaged."""
EXIT_INTERRUPTED = 130
"""Ctrl-C stopped the job."""


def exit_code(failed: int) -> int:
    """Returns the exit code of a job that is done, although some videos failed or are damaged.

    torchrun takes any code but 0 for a crash, and stops all processes.
    """
    return EXIT_SOME_FAILED if failed and "TORCHELASTIC_RUN_ID" not in os.environ else 0
