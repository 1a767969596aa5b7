"""GGUF files of architectures whose memory is not that of plain attention, small enough to be loaded in a test."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.engine.tiny_gguf import SPECIAL, vocabulary

_WIDTH, _FFN, _HEAD = 64, 96, 32

Shapes = dict[str, tuple[int, ...]]


def write_recurrent(path: Path) -> Path:
    """Two layers of Mamba: no attention at all."""
    inner, state, kernel, rank = 128, 16, 4, 4
    writer = _writer(path, "mamba", n_layers=2, n_head=0)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    shapes = {
        "ssm_in.weight": (2 * inner, _WIDTH),
        "ssm_conv1d.weight": (inner, kernel),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * state, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, state),
        "ssm_d": (inner,),
        "ssm_out.weight": (_WIDTH, inner),
    }
    return _finish(writer, path, [{"attn_norm.weight": (_WIDTH,), **shapes}] * 2)


def write_hybrid(path: Path) -> Path:
    """Four layers of LFM2: three convolutions with a state, one of attention with one key head."""
    writer = _writer(path, "lfm2", n_layers=4, n_head=2, n_head_kv=[0, 0, 1, 0])
    writer.add_uint32("lfm2.shortconv.l_cache", 3)
    writer.add_vocab_size(len(vocabulary()))
    convolution: Shapes = {
        "shortconv.conv.weight": (_WIDTH, 3),
        "shortconv.in_proj.weight": (3 * _WIDTH, _WIDTH),
        "shortconv.out_proj.weight": (_WIDTH, _WIDTH),
    }
    layers = [convolution, convolution, _attention(), convolution]
    shapes = [{"attn_norm.weight": (_WIDTH,), **layer, **_feed_forward()} for layer in layers]
    return _finish(writer, path, shapes, norm="token_embd_norm.weight")


def write_sliding(path: Path) -> Path:
    """Six layers of Gemma 3: five look back over 128 tokens."""
    writer = _writer(path, "gemma3", n_layers=6, n_head=2, n_head_kv=1)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_sliding_window(128)
    layer: Shapes = {
        "attn_norm.weight": (_WIDTH,),
        **_attention(),
        "post_attention_norm.weight": (_WIDTH,),
        **_feed_forward(),
        "post_ffw_norm.weight": (_WIDTH,),
    }
    return _finish(writer, path, [layer] * 6)


def write_latent(path: Path) -> Path:
    """Two layers of DeepSeek 2: a compressed vector of 32 and a rotated key of 16 numbers stand for keys and values."""
    rank, latent, rotated, plain = 16, 32, 16, 16
    writer = _writer(path, "deepseek2", n_layers=2, n_head=2, n_head_kv=1)
    writer.add_leading_dense_block_count(2)
    writer.add_q_lora_rank(rank)
    writer.add_kv_lora_rank(latent)
    writer.add_rope_dimension_count(rotated)
    writer.add_key_length(latent + rotated)
    writer.add_value_length(latent)
    writer.add_key_length_mla(plain + rotated)
    writer.add_value_length_mla(_HEAD)
    writer.add_expert_count(0)
    writer.add_expert_used_count(0)
    writer.add_expert_feed_forward_length(_FFN)
    writer.add_expert_shared_count(0)
    writer.add_vocab_size(len(vocabulary()))
    layer: Shapes = {
        "attn_norm.weight": (_WIDTH,),
        "attn_q_a.weight": (rank, _WIDTH),
        "attn_q_a_norm.weight": (rank,),
        "attn_q_b.weight": (2 * (plain + rotated), rank),
        "attn_kv_a_mqa.weight": (latent + rotated, _WIDTH),
        "attn_kv_a_norm.weight": (latent,),
        "attn_k_b.weight": (2, latent, plain),
        "attn_v_b.weight": (2, _HEAD, latent),
        "attn_output.weight": (_WIDTH, 2 * _HEAD),
        **_feed_forward(),
    }
    return _finish(writer, path, [layer] * 2, output=True)


def _writer(path: Path, architecture: str, *, n_layers: int, n_head: int, n_head_kv: object = None) -> gguf.GGUFWriter:
    words = vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture}")
    writer.add_context_length(1024)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(_FFN if n_head else 0)
    writer.add_head_count(n_head)
    if n_head_kv is not None:
        writer.add_head_count_kv(n_head_kv)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in SPECIAL else 1 for word in words])
    writer.add_token_merges(["h e", "l l"])
    writer.add_bos_token_id(len(words) - 3)
    writer.add_eos_token_id(len(words) - 1)
    writer.add_add_bos_token(False)
    return writer


def _attention() -> Shapes:
    """Two heads of queries and one of keys."""
    return {
        "attn_q.weight": (2 * _HEAD, _WIDTH),
        "attn_k.weight": (_HEAD, _WIDTH),
        "attn_v.weight": (_HEAD, _WIDTH),
        "attn_output.weight": (_WIDTH, 2 * _HEAD),
        "attn_q_norm.weight": (_HEAD,),
        "attn_k_norm.weight": (_HEAD,),
    }


def _feed_forward() -> Shapes:
    return {
        "ffn_norm.weight": (_WIDTH,),
        "ffn_gate.weight": (_FFN, _WIDTH),
        "ffn_up.weight": (_FFN, _WIDTH),
        "ffn_down.weight": (_WIDTH, _FFN),
    }


def _finish(
    writer: gguf.GGUFWriter, path: Path, layers: list[Shapes], *, norm: str = "output_norm.weight", output: bool = False
) -> Path:
    n_vocab = len(vocabulary())
    shapes: Shapes = {"token_embd.weight": (n_vocab, _WIDTH), norm: (_WIDTH,)}
    if output:
        shapes["output.weight"] = (n_vocab, _WIDTH)
    for index, layer in enumerate(layers):
        shapes |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}
    rng = np.random.default_rng(3)
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
