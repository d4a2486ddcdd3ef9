"""How good a prior is: measures, the whole evaluation, its tables, the classifier."""
