"""How good an encoder is: nearest neighbours, logistic regression, results and reports. Does not know how it was trained."""
