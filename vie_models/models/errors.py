"""The error about weights that cannot be used."""


class WeightsError(RuntimeError):
    """Weights are missing, damaged or do not fit. The message says what to do."""
