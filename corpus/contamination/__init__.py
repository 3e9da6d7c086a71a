"""13-gram overlap between training text and benchmarks, after appendix C of Brown et al. (2020)."""
