"""Every option of every command, as frozen dataclasses with their checks. Standard library only.

A config document imports all it needs from here: `from tlc_jax.config import *`.
"""

from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.config.compression_aware import CompressionAwareConfig, MovementConfig
from tlc_jax.config.data import DataConfig, PairsConfig
from tlc_jax.config.model import EncoderDecoderConfig, ModelConfig, TransformerConfig
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.config.run import FREE_ON_RESUME, Config
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.config.task import ClassificationConfig, MlmConfig, TranslationConfig
from tlc_jax.config.training import (
    BudgetConfig,
    BudgetMeasure,
    CheckpointConfig,
    DistilConfig,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    ScheduleConfig,
)

__all__ = [
    "FREE_ON_RESUME",
    "BudgetConfig",
    "BudgetMeasure",
    "CheckpointConfig",
    "ClassificationConfig",
    "CompressConfig",
    "CompressionAwareConfig",
    "Config",
    "DataConfig",
    "DistilConfig",
    "EncoderDecoderConfig",
    "EvaluationConfig",
    "MeshConfig",
    "MlmConfig",
    "ModelConfig",
    "MovementConfig",
    "OptimizerConfig",
    "PairsConfig",
    "QuantSpec",
    "RecoveryConfig",
    "Rule",
    "ScheduleConfig",
    "SearchConfig",
    "StudyConfig",
    "TransformerConfig",
    "TranslationConfig",
]
