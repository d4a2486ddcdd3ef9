"""Evaluation of a prior: the measures, the suite of all, its tables, the classifier."""
