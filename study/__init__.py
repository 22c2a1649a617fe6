"""What optimizers do to a gradient: its magnitude, its direction, or both.

Import the modules (`from study import trees, optimizers`); ARCHITECTURE.md says what
each of them owns.
"""
