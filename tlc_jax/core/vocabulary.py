"""Ids and names of special tokens, shared by tokenizer, data and models. RoBERTa's <mask> is the last id."""

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK_TOKEN = "<mask>"

# translation uses the layout of Tensor2Tensor: no beginning, the pad first
TRANSLATION_PAD, TRANSLATION_EOS, TRANSLATION_UNK = 0, 1, 2
TRANSLATION_TOKENS = ("<pad>", "</s>", "<unk>")
