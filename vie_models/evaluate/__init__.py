"""Evaluation of encoders: kNN, logistic regression, results, reports and predictions. Independent of the training code."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .predict import Prediction, Predictor, load_predictor

__getattr__, __all__ = lazy_names(__name__, {".predict": ["Prediction", "Predictor", "load_predictor"]})
