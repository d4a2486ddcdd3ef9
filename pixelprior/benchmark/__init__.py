"""How fast this machine samples and trains, as ratios."""
