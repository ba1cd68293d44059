"""Evaluation of encoders: kNN, logistic regression, results, reports and predictions. Independent of the training code."""
