"""The paper's RoBERTa: 12 layers, width 768, batch 8192 rows of 128 tokens (paper 2.1, table 1).

    python -m tlc_jax.prepare wikipedia --out text/wikipedia
    python -m tlc_jax.prepare pg19 --out text/books
    python -m tlc_jax.train --config pretrain --workdir runs/paper --data.dir text/

Data: English Wikipedia and books (the paper: 3.4 billion words). BookCorpus, the paper's books, is not
distributed any more; those of PG-19 take its place, which are older and longer. Tokenizer: GPT-2's byte-level
BPE, `--data.tokenizer FOLDER/vocab.json`. Without it one of the same size is trained, and perplexities do not
compare with the paper's.

Cost, by arithmetic and not measured: 5.9e14 FLOPs for each of 125,000 updates, about a day on 32 TPU v3 cores
at 45 % of peak. What to expect: the paper gives no perplexity for the end of such a run. The 4.3 of its table
2 is where this size was stopped, so that sizes could be finetuned from roughly the same perplexity; a whole
run ends below that. The nearest published number is 3.77, of RoBERTa base on books and Wikipedia with batch
8192, 31,000 updates and rows of 512 tokens (Liu et al., 2019). The paper's other sizes are options:
`--model.num-layers {3,6,18,24}`, `--model.hidden-size {256,512,1024,1536}`, with the same learning rate
(paper 3).
"""

from tlc_jax.config import (
    BudgetConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)


def get_config() -> Config:
    return Config(
        model=ModelConfig(num_layers=12, hidden_size=768, compute_dtype="bfloat16"),
        data=DataConfig(),
        optimizer=OptimizerConfig(learning_rate=1.5e-3),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=125_000),
        evaluation=EvaluationConfig(every_steps=1000, max_rows=16_384),
        batch_size=8192,
        micro_batch=256,
    )
