"""Checks of the course's exercises, a module a notebook; `verdict.py` says how they
judge."""
