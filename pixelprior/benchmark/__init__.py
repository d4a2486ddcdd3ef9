"""How fast it samples and trains on this machine, as ratios."""
