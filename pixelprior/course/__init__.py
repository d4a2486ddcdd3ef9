"""What the course alone uses: figures, widgets, the checks of the exercises, and what a
notebook measures or plans with."""
