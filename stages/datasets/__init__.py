"""The built-in data sets: each module makes one folder of labelled images under data/."""
