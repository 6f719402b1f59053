"""RoBERTa's special ids, shared by the tokenizer, masking and the encoder; <mask> is the last id."""

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK_TOKEN = "<mask>"
