"""Stage `compare`: which track is better on the same images, whether that may be chance, and what to try next."""
