"""The page that shows rows of any number of runs."""
