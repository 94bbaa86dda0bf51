"""Records: the measured claims of finished runs, kept with all that they depend on."""
