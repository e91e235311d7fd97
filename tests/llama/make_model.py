"""Writes a llama model of two layers and half a megabyte: random weights, a vocabulary of bytes, real enough for llama.cpp.

Its answers are made of lower-case letters and spaces and mean nothing; they end only at ``max_tokens``. Used as a script too::

    python -m tests.llama.make_model tiny.gguf
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy

LAYERS = 2
WIDTH = 64
HEADS = 4
FEED_FORWARD = 128
CONTEXT = 2048
SPECIAL = ("<unk>", "<s>", "</s>")
VOCABULARY = len(SPECIAL) + 256
SPOKEN = b"abcdefghijklmnopqrstuvwxyz    "
SEED = 20260


def write_model(path: Path) -> Path:
    """Write the model to *path*, the same bytes each time."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("txsse-tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer)
    _add_weights(writer, numpy.random.default_rng(SEED))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    unknown, control, byte = gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.BYTE
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*SPECIAL, *(f"<0x{value:02X}>" for value in range(256))])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([unknown, control, control, *[byte] * 256])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)


def _add_weights(writer: gguf.GGUFWriter, random: numpy.random.Generator) -> None:
    def matrix(rows: int, columns: int) -> numpy.ndarray:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(numpy.float32)

    # The first column of the embeddings is large and the same for all tokens, so it comes out of the last norm nearly constant
    # and works as the bias that llama's output layer has not: only what can be read is ever said, and never the end token.
    embedding = matrix(VOCABULARY, WIDTH) * 8.0
    embedding[:, 0] = 4.0
    output = matrix(VOCABULARY, WIDTH)
    output[:, 0] = -6.0
    for value in SPOKEN:
        output[len(SPECIAL) + value, 0] = 1.0
    output[len(SPECIAL) + ord(" "), 0] = 1.7
    ones = numpy.ones(WIDTH, dtype=numpy.float32)

    writer.add_tensor("token_embd.weight", embedding)
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix(WIDTH, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", matrix(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", matrix(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", matrix(WIDTH, FEED_FORWARD))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)


if __name__ == "__main__":
    print(write_model(Path(sys.argv[1])))
