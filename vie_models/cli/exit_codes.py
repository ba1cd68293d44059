"""Exit codes of `vie`."""

EXIT_FAILED = 1
"""The job failed."""
EXIT_USAGE = 2
"""The arguments are wrong."""
EXIT_SOME_FAILED = 3
"""The job is done, but some videos failed or are damaged."""
EXIT_INTERRUPTED = 130
"""Ctrl-C stopped the job."""
