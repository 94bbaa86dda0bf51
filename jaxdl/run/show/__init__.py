"""Output for people: log lines, tables of claims, figures, comparisons of runs."""
