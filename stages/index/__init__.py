"""Stage `index`: every file of the data set, its digest, its picture's size and its state."""
