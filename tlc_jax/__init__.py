"""tlc_jax: Train Large, Then Compress (Li, Wallace et al., 2020) in JAX."""

__version__ = "0.1.0"
