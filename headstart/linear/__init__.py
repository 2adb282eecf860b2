"""Linear: ridge and logistic regression by cross-validation, calibrated."""
