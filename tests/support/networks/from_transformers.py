"""Networks of ``transformers`` in tiny configurations; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .listed import VOCABULARY, Example, Network, numbers, tokens

HIDDEN = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
HEADS = {"num_attention_heads": 4}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
DECODER = {"vocab_size": VOCABULARY, "max_position_embeddings": 16, **SPECIAL, **HIDDEN, **HEADS}
GROUPED = {**DECODER, "num_key_value_heads": 2}
ENCODER = {"vocab_size": VOCABULARY, "max_position_embeddings": 16, **HIDDEN, **HEADS}
IMAGES = {"image_size": 16, "patch_size": 4, "num_channels": 3, "num_labels": 3}


def model(config: str, head: str, **settings: Any) -> Callable[[], nn.Module]:
    """A model of a class with a head, of a configuration."""

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, head)(getattr(transformers, config)(**settings))

    return build


def masked() -> dict[str, Tensor]:
    """Tokens, padded at the end, and the mask that says so."""
    seen = torch.arange(6) < torch.tensor([6, 3, 4])[:, None]
    return {"input_ids": tokens()() * seen, "attention_mask": seen.long()}


def translated() -> dict[str, Tensor]:
    """Tokens to read and tokens to write."""
    return {"input_ids": tokens()(), "decoder_input_ids": tokens(3, 5)()}


def spoken() -> dict[str, Tensor]:
    """A spectrogram and tokens to write."""
    return {"input_features": numbers(2, 8, 32)(), "decoder_input_ids": tokens(2, 5)()}


def shown() -> dict[str, Tensor]:
    """Tokens and images."""
    return {"input_ids": tokens(2, 6)(), "pixel_values": numbers(2, 3, 16, 16)()}


def line(
    name: str,
    family: str,
    built: Callable[[], nn.Module],
    example: Callable[[], Example],
    asks: str = "",
) -> Network:
    return Network(name, family, "transformers", built, example, asks)


CLIP_PART = {**HIDDEN, **HEADS}

NETWORKS = [
    line("llama", "Llama", model("LlamaConfig", "LlamaForCausalLM", **GROUPED), tokens(),
         "rotary, RMSNorm by hand, grouped queries"),
    line("mistral", "Mistral", model("MistralConfig", "MistralForCausalLM", **GROUPED), masked,
         "rotary, RMSNorm by hand, grouped queries, mask"),
    line("qwen2", "Qwen", model("Qwen2Config", "Qwen2ForCausalLM", **GROUPED), tokens(),
         "rotary, RMSNorm by hand, grouped queries"),
    line("qwen3", "Qwen", model("Qwen3Config", "Qwen3ForCausalLM", **GROUPED, head_dim=4),
         tokens(), "rotary, RMSNorm by hand of heads too, grouped queries"),
    line("gemma", "Gemma", model("GemmaConfig", "GemmaForCausalLM", **GROUPED, head_dim=4),
         tokens(), "rotary, RMSNorm by hand, grouped queries"),
    line("phi3", "Phi", model("Phi3Config", "Phi3ForCausalLM", **GROUPED), tokens(),
         "rotary, RMSNorm by hand, fused projections of unequal parts"),
    line("olmo2", "OLMo", model("Olmo2Config", "Olmo2ForCausalLM", **DECODER), tokens(),
         "rotary, RMSNorm by hand over all heads"),
    line("gpt2", "GPT", model(
        "GPT2Config", "GPT2LMHeadModel", vocab_size=VOCABULARY, n_positions=16, n_embd=16,
        n_layer=2, n_head=4, **SPECIAL), tokens()),
    line("gpt_neox", "GPT", model("GPTNeoXConfig", "GPTNeoXForCausalLM", **DECODER), tokens(),
         "rotary on a part of a head"),
    line("opt", "OPT", model(
        "OPTConfig", "OPTForCausalLM", vocab_size=VOCABULARY, hidden_size=16, ffn_dim=24,
        num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16,
        max_position_embeddings=16, **SPECIAL), tokens()),
    line("bloom", "BLOOM", model(
        "BloomConfig", "BloomForCausalLM", vocab_size=VOCABULARY, hidden_size=16, n_layer=2,
        n_head=4, **SPECIAL), tokens(), "biases by position of each head"),
    line("falcon", "Falcon", model("FalconConfig", "FalconForCausalLM", **{
        k: v for k, v in DECODER.items() if k != "intermediate_size"}), tokens(),
         "one key for all heads"),
    line("mamba", "Mamba", model(
        "MambaConfig", "MambaForCausalLM", vocab_size=VOCABULARY, hidden_size=16, state_size=4,
        num_hidden_layers=2, time_step_rank=2, **SPECIAL), tokens(), "RMSNorm by hand, scan"),
    line("t5", "T5", model(
        "T5Config", "T5ForConditionalGeneration", vocab_size=VOCABULARY, d_model=16, d_kv=4,
        d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0), translated,
         "RMSNorm by hand, biases by position of each head"),
    line("bart", "BART", model(
        "BartConfig", "BartForConditionalGeneration", vocab_size=VOCABULARY, d_model=16,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=16,
        decoder_start_token_id=1, forced_eos_token_id=1, **SPECIAL), translated),
    line("bert", "BERT", model("BertConfig", "BertForSequenceClassification", **ENCODER,
                               num_labels=3), masked, "mask"),
    line("distilbert", "BERT", model(
        "DistilBertConfig", "DistilBertForSequenceClassification", vocab_size=VOCABULARY,
        max_position_embeddings=16, dim=16, n_layers=2, n_heads=4, hidden_dim=24), masked, "mask"),
    line("roberta", "RoBERTa", model("RobertaConfig", "RobertaForMaskedLM", **ENCODER), tokens()),
    line("albert", "ALBERT", model(
        "AlbertConfig", "AlbertForSequenceClassification", **ENCODER, embedding_size=8,
        num_labels=3), tokens(), "one layer used twice"),
    line("electra", "ELECTRA", model(
        "ElectraConfig", "ElectraForTokenClassification", **ENCODER, embedding_size=8), tokens()),
    line("deberta", "DeBERTa", model(
        "DebertaV2Config", "DebertaV2ForSequenceClassification", **ENCODER, relative_attention=True,
        pos_att_type=["p2c", "c2p"], position_buckets=4), tokens(),
         "attention to relative positions"),
    line("vit", "ViT", model("ViTConfig", "ViTForImageClassification", **HIDDEN, **HEADS,
                             **IMAGES), numbers(2, 3, 16, 16)),
    line("swin", "Swin", model(
        "SwinConfig", "SwinForImageClassification", image_size=16, patch_size=2, embed_dim=8,
        depths=[2, 2], num_heads=[2, 4], window_size=2, num_labels=3), numbers(2, 3, 16, 16),
         "shifted windows, merged patches"),
    line("convnext", "ConvNeXt", model(
        "ConvNextConfig", "ConvNextForImageClassification", hidden_sizes=[8, 16], depths=[1, 1],
        num_stages=2, num_labels=3), numbers(2, 3, 16, 16), "scale of each layer"),
    line("segformer", "SegFormer", model(
        "SegformerConfig", "SegformerForImageClassification", num_encoder_blocks=2, depths=[1, 1],
        sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[2, 4], mlp_ratios=[2, 2], num_labels=3), numbers(2, 3, 16, 16)),
    line("whisper", "Whisper", model(
        "WhisperConfig", "WhisperForConditionalGeneration", vocab_size=VOCABULARY, num_mel_bins=8,
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=16,
        max_target_positions=12, decoder_start_token_id=1, suppress_tokens=None,
        begin_suppress_tokens=None, **SPECIAL), spoken),
    line("wav2vec2", "Wav2Vec2", model(
        "Wav2Vec2Config", "Wav2Vec2ForSequenceClassification", vocab_size=VOCABULARY, **HIDDEN,
        **HEADS, conv_dim=[8, 8], conv_stride=[4, 2], conv_kernel=[8, 3],
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
        num_labels=3), numbers(2, 256), "weight norm, group norm of single channels"),
    line("clip", "CLIP", model(
        "CLIPConfig", "CLIPModel", projection_dim=8,
        text_config={**CLIP_PART, "vocab_size": VOCABULARY, "max_position_embeddings": 16,
                     **SPECIAL},
        vision_config={**CLIP_PART, "image_size": 16, "patch_size": 4}), shown,
         "two inputs, several outputs, cosine of the outputs"),
]  # fmt: skip
