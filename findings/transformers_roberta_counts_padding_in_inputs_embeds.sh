#!/usr/bin/env bash
# transformers 5.24.0: RobertaModel gives other answers for `inputs_embeds` than for the ids that they were looked up by.
#
# RoBERTa counts positions past padding. For `input_ids` it finds the padding by its id; for `inputs_embeds` it takes
# none to be there, also where `attention_mask` says so, and counts on from the first column. So the vectors of the same
# tokens, looked up by the model's own table, get other position vectors wherever padding stands before words. Nothing
# warns. (GPT-2 and Llama classifiers, which look for the last token that is no padding, do warn.)
#
# Seen: the same hidden states where there is no padding, and others where two columns of padding stand first.
# What it means for users of this library: words are made vectors of zeros, and explained, by what the first embedding
# of the ids gives while the model is called with the ids (aopc_monitor/network/word_vectors.py), never by
# `inputs_embeds`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.14.1"
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
import transformers
from transformers import RobertaConfig, RobertaModel

torch.manual_seed(0)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
model = RobertaModel(RobertaConfig(vocab_size=50, max_position_embeddings=20, **sizes)).eval()
PAD = model.config.pad_token_id
ids = torch.tensor([[7, 8, 9, 10, 11], [PAD, PAD, 9, 10, 11]])
mask = (ids != PAD).long()
with torch.no_grad():
    by_ids = model(input_ids=ids, attention_mask=mask).last_hidden_state
    vectors = model.get_input_embeddings()(ids)
    by_vectors = model(inputs_embeds=vectors, attention_mask=mask).last_hidden_state
differences = ((by_ids - by_vectors) * mask[..., None]).abs().amax(dim=(1, 2)).tolist()
print("transformers", transformers.__version__, "largest difference at words:", differences)
assert differences[0] == 0
assert differences[1] > 0.01
PYTHON
