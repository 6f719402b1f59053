"""RoBERTa's special ids, shared by the tokenizer, masking and the encoder; <mask> is the last id."""

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK_TOKEN = "<mask>"

# translation has Tensor2Tensor's layout: no beginning, the pad first
TRANSLATION_PAD, TRANSLATION_EOS, TRANSLATION_UNK = 0, 1, 2
TRANSLATION_TOKENS = ("<pad>", "</s>", "<unk>")
