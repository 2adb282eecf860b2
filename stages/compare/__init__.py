"""Stage `compare`: which track is better on the same images, whether that is chance, and what to try next."""
