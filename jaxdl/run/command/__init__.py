"""The user interface: flags, the contract of an experiment, the command line, and the use of finished runs."""
