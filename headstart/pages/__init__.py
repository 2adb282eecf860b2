"""Pages: templates and thumbnails for the report, the gallery and the server."""
