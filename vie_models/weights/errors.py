"""The error that loading and publishing weights raises."""


class WeightsError(RuntimeError):
    """Weights are missing, damaged or do not fit. The message says what to do."""
