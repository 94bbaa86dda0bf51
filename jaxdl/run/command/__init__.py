"""What a user meets: flags, the contract of an experiment, the command line, and a finished run in use."""
