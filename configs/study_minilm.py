r"""A published checkpoint, finetuned on SST-2 with three seeds and compressed: all-MiniLM-L6-v2 (BERT, 6
layers of 384, 22.7 M parameters), or another one of --pretrained.

    python -m tlc_jax.study --config study_minilm --workdir W --workers 2 \
        --pretrained hf:FOLDER --finetune.data.dir DATA

FOLDER is as in `finetune_bert`, whose recipe each finetuning has, and DATA what `python -m tlc_jax.prepare
glue/sst2 --out DATA` wrote. Three learning rates are tried with three seeds each; the best mean on the
tuning set is compressed, with all of its seeds: at once at each number of bits and sparsity, and pruned in
rounds with recovery, beside the dense model that was trained as long. The reported set chooses nothing.

Several checkpoints are compared at equal bytes: --pretrained hf:FOLDER hf:OTHER. They must have one
tokenizer.

Cost, estimated from the updates and evaluations of `finetune_bert`, which were timed on a busy machine: 8
hours of one core for the nine finetunings, 8 at most for recovery and its control, and 2 for 180 compressed
models and their evaluations, together 9 hours of two cores with two workers; 25 GB of disk (--dry-run says
so). Of 5e-5 and 1e-4 the second was better on the tuning set (docs/results/minilm_search.md): with
`--search.learning-rates 1e-4` a third of the finetunings is left.
"""

from tlc_jax.config import CompressConfig, Config, RecoveryConfig
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.core.config_document import load_config


def get_config() -> StudyConfig:
    return StudyConfig(
        pretrained=("hf:all-MiniLM-L6-v2",),
        sizes=(),
        finetune=load_config("finetune_bert", Config),
        search=SearchConfig(learning_rates=(5e-5, 1e-4, 2e-4), seeds=(100, 300, 500)),
        bits=(32, 8, 6, 4, 3, 2),
        sparsities=(0.0, 0.6, 0.75, 0.9),
        compression=CompressConfig(granularity="row", range="mse"),
        recovery=RecoveryConfig(levels=(0.3, 0.6, 0.75, 0.9), evaluate_every=250, control=True),
    )
