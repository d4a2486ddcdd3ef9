"""Checks of the course's exercises, a module per notebook; `verdict.py` says how they
judge."""
