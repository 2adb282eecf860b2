"""Base: errors, files, params, threads, progress, downloads, the machine. Nothing here is about images or networks."""
