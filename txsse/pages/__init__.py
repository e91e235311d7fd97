"""Our own pages on the main listener: the waiting page, and the progress that it follows."""
