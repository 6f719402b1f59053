"""2:4 sparsity for sparse tensor cores (Mishra et al. 2021): of every four neighbours in a row the two
smallest become zero, in all matrices but a classification's head; the others become 8-bit codes, one range a
row.

    python -m tlc_jax.compress RUN --config prune_2_4 --out DIR
    python -m tlc_jax.compress --hf FOLDER --config prune_2_4 --out DIR

A matrix then takes five eighths of the bytes that 8-bit codes take. Tensors whose rows four does not divide
are not pruned, and named. Nothing is finetuned, so expect a loss; to finetune a run after pruning, give the
step recovery=RecoveryConfig() in a copy of this document, and the command --workdir.

Cost: no training; pruning takes 1.6 s for 34 million weights on one CPU core.
"""

from tlc_jax.compression.methods.prune_n_of_m import PruneNOfM
from tlc_jax.config import CompressConfig


def get_config() -> CompressConfig:
    return CompressConfig(bits=8, granularity="row", matrices_only=True, steps=(PruneNOfM(2, 4),))
