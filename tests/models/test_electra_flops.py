"""Operations against numbers that ELECTRA's own script printed."""

from __future__ import annotations

import pytest

from tlc_jax.config import EncoderDecoderConfig, ModelConfig
from tlc_jax.models.electra_flops import electra_translation_update, electra_update

PRINTED = {  # layers, width: an update of one row of 128 tokens, 50,265 entries, 15 % predicted
    (3, 768): (34_060_712_256, 14_295_710_016),
    (6, 768): (45_279_168_576, 25_514_166_336),
    (12, 768): (67_716_081_216, 47_951_078_976),
    (18, 768): (90_152_993_856, 70_387_991_616),
    (24, 768): (112_589_906_496, 92_824_904_256),
    (12, 256): (12_907_302_054.4, 6_318_967_974.4),
    (12, 512): (35_474_820_262.4, 22_298_152_102.4),
    (12, 1024): (109_631_084_915.2, 83_277_748_595.2),
    (12, 1536): (222_482_320_550.4, 182_952_316_070.4),
}


@pytest.mark.parametrize(("layers", "width"), PRINTED)
def test_sizes_of_the_paper(layers: int, width: int) -> None:
    model = ModelConfig(num_layers=layers, hidden_size=width)
    dense, sparse = PRINTED[layers, width]
    assert electra_update(model, 1, 128, 0.15) == pytest.approx(dense, rel=1e-14)
    assert electra_update(model, 1, 128, 0.15, sparse=True) == pytest.approx(sparse, rel=1e-14)
    assert electra_update(model, 8192, 128, 0.15) == pytest.approx(8192 * dense, rel=1e-14)


def test_bert_base() -> None:
    model = ModelConfig(vocab_size=30522)
    assert electra_update(model, 1, 128, 20 / 128) == 58_860_278_640
    assert electra_update(model, 1, 128, 20 / 128, sparse=True) == 46_858_539_888
    longer = ModelConfig(vocab_size=30522, max_positions=512)
    assert electra_update(longer, 1, 512, 80 / 512) == 251_106_840_000


def test_an_encoder_decoder_is_an_encoder_and_a_decoder() -> None:
    model = EncoderDecoderConfig()  # 6 layers, width 512, 32,768 entries
    assert electra_translation_update(model, 1, 64, 64) == 9_262_796_544 + 15_373_901_312
