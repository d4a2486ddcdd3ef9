"""Checks of the course's exercises, in one or two modules per notebook; `verdict.py`
explains how they judge."""
