"""Pure functions of arrays: what attention and representations are measured by."""

from vitdyn.metrics.attention import attention_diversity

__all__ = ["attention_diversity"]
