"""Base: errors, files, params, threads, progress, downloads, the machine. Knows no subject of this project."""
