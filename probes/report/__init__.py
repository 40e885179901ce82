"""An evaluation as a page that people read."""
