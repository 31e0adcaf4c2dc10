"""The backend of CUDA, in Triton."""
