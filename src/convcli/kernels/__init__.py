"""Kernels: the named ones, and every way a user can write one down. NumPy is imported only for the numbers."""
