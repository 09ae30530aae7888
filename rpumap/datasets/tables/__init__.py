"""Summary numbers from which the simulated data sets are drawn, and how they were computed."""
