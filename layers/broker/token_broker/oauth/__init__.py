"""OAuth without I/O: grants as generators, what requests look like, and what responses mean."""
