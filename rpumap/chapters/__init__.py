"""What the chapters of the book share, and users of the package do not need."""
