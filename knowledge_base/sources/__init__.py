"""Where documents come from: a folder, a bucket, pages of the web, or a request."""
