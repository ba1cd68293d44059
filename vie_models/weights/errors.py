"""What goes wrong with weights."""


class WeightsError(RuntimeError):
    """Weights that cannot be had, or are not what they should be. The message says what to do."""
