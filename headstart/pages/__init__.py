"""Pages: what all pages for people share."""
