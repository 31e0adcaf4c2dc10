"""The backend of the CPU, compiled by numba."""
