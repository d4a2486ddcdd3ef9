"""Code that only the course uses: figures, widgets, the checks of the exercises, and
the tools with which a notebook measures or plans."""
