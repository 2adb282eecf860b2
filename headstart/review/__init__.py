"""Review: a local page in which people look at doubtful images, correct labels, and train the head anew."""
