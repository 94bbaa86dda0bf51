"""The files of a run: written atomically and checked when they are read."""
