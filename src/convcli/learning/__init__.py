"""Learning a kernel from what it did to a picture."""
