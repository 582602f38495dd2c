"""Pure geometry over numpy arrays: it knows no pipeline and imports nothing of da3stream."""
