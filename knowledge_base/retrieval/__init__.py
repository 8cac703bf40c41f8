"""From a question to passages, and why there are none."""
