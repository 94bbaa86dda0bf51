"""What a user meets: flags, configurations, the contract of an experiment, the command line and a finished run in use."""
