"""Files as text with headings, pages and metadata; whatever is wrong with one is said of that one."""
