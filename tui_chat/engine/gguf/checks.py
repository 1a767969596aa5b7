"""What llama.cpp takes for granted in a model file, checked before it may see one.

Each check stands for a `GGML_ASSERT`, `GGML_ABORT` or uncaught C++ exception in llama.cpp that would end the process,
or for a file that loads and cannot chat. What llama.cpp reports itself as an error is left to it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NoReturn

from tui_chat.engine.gguf.header import GgufArray, GgufHeader, TensorInfo
from tui_chat.engine.gguf.reader import read_header, read_strings
from tui_chat.errors import ModelFileError

MAX_LAYERS = 512
"""`LLAMA_MAX_LAYERS`."""

MAX_EXPERTS = 1024
"""`LLAMA_MAX_EXPERTS`."""

_TENSOR_ALIGNMENT = 32  # ggml's TENSOR_ALIGNMENT: a mapped buffer must begin on it

_NOT_CHAT = {
    "clip": "the vision part of a multimodal model, not a language model",
    "bert": "an embedding model, which cannot write text",
    "modern-bert": "an embedding model, which cannot write text",
    "nomic-bert": "an embedding model, which cannot write text",
    "nomic-bert-moe": "an embedding model, which cannot write text",
    "neo-bert": "an embedding model, which cannot write text",
    "jina-bert-v2": "an embedding model, which cannot write text",
    "jina-bert-v3": "an embedding model, which cannot write text",
    "eurobert": "an embedding model, which cannot write text",
    "gemma-embedding": "an embedding model, which cannot write text",
    "t5encoder": "an encoder, which cannot write text",
    "wavtokenizer-dec": "a speech decoder, not a language model",
}

# fmt: off
_FULL_ROTARY = frozenset({
    "llama", "llama4", "falcon", "grok", "baichuan", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl",
    "qwen3vlmoe", "codeshell", "orion", "internlm2", "starcoder2", "xverse", "dbrx", "olmo", "olmo2", "olmoe",
    "arctic", "deepseek", "exaone", "exaone4", "granite", "granitemoe", "chameleon", "dots1", "arcee",
    "ernie4_5", "ernie4_5-moe", "hunyuan-moe", "hunyuan-dense", "smollm3", "dream", "smallthinker", "llada",
    "llada-moe", "seed_oss", "grovemoe", "apertus", "plamo", "mistral3", "pangu-embedded", "jais2", "cogvlm", "rnd1",
})
# fmt: on
"""Architectures whose graph asserts that the rotary width is the whole head (`n_embd_head == n_rot`)."""

_NO_ROTARY = frozenset(
    {"bloom", "gpt2", "granitehybrid", "jamba", "kimi-linear", "mpt", "nemotron_h", "nemotron_h_moe", "refact"}
)
"""Architectures that may say they rotate nothing; the others never end where `rope.dimension_count` is 0."""

_SCALAR_TYPES = {
    "context_length": "u32",
    "embedding_length": "u32",
    "block_count": "u32",
    "expert_count": "u32",
    "rope.dimension_count": "u32",
    "attention.key_length": "u32",
    "attention.value_length": "u32",
    "rope.freq_base": "f32",
    "rope.scaling.type": "str",
    "rope.scaling.factor": "f32",
    "attention.layer_norm_epsilon": "f32",
    "attention.layer_norm_rms_epsilon": "f32",
}

_DEFAULT_SPECIAL = {"llama": (1, 2), "gpt2": (11, 11), "plamo2": (1, 2), "t5": (None, 1)}
"""Beginning and end token ids that llama.cpp assumes, by tokenizer, where the file names none."""


def check_model(header: GgufHeader) -> None:
    """Refuse what llama.cpp would die of, and what cannot chat.

    Raises:
        ModelFileError: Names the first thing that is wrong and what to do.
    """
    _Checker(header).run()


def split_paths(path: Path, count: int) -> list[Path] | None:
    """The names of all parts of a split model, in order; None where the name does not follow the pattern."""
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", path.name)
    if match is None or int(match[3]) != count:
        return None
    return [path.with_name(f"{match[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


class _Checker:
    """All checks on one header; `arch` is the prefix of the model's own keys."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.arch = header.architecture

    def fail(self, message: str) -> NoReturn:
        raise ModelFileError(message, path=self.header.path)

    def damaged(self, what: str) -> NoReturn:
        self.fail(f"{what}; the file is damaged or was converted wrongly, fetch another one")

    def run(self) -> None:
        self.purpose()
        tensors = self.parts()
        self.tensor_types(tensors)
        self.dimensions()
        self.experts()
        self.rotary()
        self.numbers()
        self.tokenizer()

    def purpose(self) -> None:
        header = self.header
        kind = header.text("general.type")
        if kind == "adapter":
            self.fail("a LoRA adapter, not a model: load the model it was made for")
        if kind in ("mmproj", "imatrix"):
            self.fail(f"a file of the kind {kind!r}, which goes with a model: load the model itself")
        if not self.arch:
            self.damaged("the header does not name the model's architecture (general.architecture)")
        if self.arch in _NOT_CHAT:
            self.fail(f"this is {_NOT_CHAT[self.arch]}: choose a chat model")
        if not header.tensors and self.split_count() < 2:
            self.fail("a vocabulary-only file without weights: fetch the model itself")

    def split_count(self) -> int:
        if self.header.types.get("split.count", "u16") != "u16":
            self.damaged("split.count is not a 16-bit number")
        return self.header.integer("split.count") or 0

    def parts(self) -> list[TensorInfo]:
        """The tensors of all parts of the model; refuses a set that is not whole."""
        header, count = self.header, self.split_count()
        if count < 2:
            self.alignment(header)
            return list(header.tensors)
        paths = split_paths(header.path, count)
        if paths is None:
            self.fail(
                f"one of {count} parts of a split model, renamed: give the parts their names back "
                f"(…-00001-of-{count:05d}.gguf) and load the first"
            )
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self.fail(f"one of {count} parts of a split model; {missing[0]}{more} is not beside it: fetch all parts")
        if header.integer("split.no") != 0:
            self.fail(f"part {(header.integer('split.no') or 0) + 1} of {count} of a split model: load {paths[0].name}")
        tensors: list[TensorInfo] = []
        for number, path in enumerate(paths):
            part = header if number == 0 else read_header(path)
            if part.types.get("split.no") != "u16" or part.integer("split.no") != number:
                raise ModelFileError(f"does not say that it is part {number + 1} of {count}: fetch it again", path=path)
            self.alignment(part)
            tensors.extend(part.tensors)
        total = header.integer("split.tensors.count")
        if total != len(tensors):
            self.damaged(f"the parts hold {len(tensors)} tensors, but the first asks for {total}")
        return tensors

    def alignment(self, header: GgufHeader) -> None:
        if header.tensors and (header.data_offset % _TENSOR_ALIGNMENT or header.alignment % _TENSOR_ALIGNMENT):
            raise ModelFileError(
                f"the weights lie at byte {header.data_offset}, aligned to {header.alignment}; "
                f"llama.cpp needs a multiple of {_TENSOR_ALIGNMENT}: convert the model again",
                path=header.path,
            )

    def tensor_types(self, tensors: list[TensorInfo]) -> None:
        for tensor in tensors:
            added = tensor.name.endswith(("norm.weight", ".bias"))
            if added and tensor.type.name != "F32" and len(tensor.shape) == 1:
                self.damaged(f"the tensor {tensor.name} is stored as {tensor.type.name}, but must be F32")
            if tensor.name.endswith(".weight") and not tensor.type.weights and "tid2eid" not in tensor.name:
                self.damaged(f"the tensor {tensor.name} is stored as {tensor.type.name}, which holds no weights")

    def key(self, name: str) -> str:
        return f"{self.arch}.{name}"

    def count(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """The value of `<arch>.name`, which must be a whole number in the range; `default` where it is absent."""
        key = self.key(name)
        if key not in self.header.metadata:
            if default is None:
                self.damaged(f"the header lacks {key}")
            return default
        value = self.header.integer(key)
        if value is None or not low <= value <= high:
            self.damaged(f"{key} is {self.shown(key)}, not a number from {low} to {high}")
        return value

    def per_layer(self, name: str, n_layers: int) -> list[int]:
        """The values of `<arch>.name` for every layer; [] where it is absent."""
        key = self.key(name)
        value = self.header.metadata.get(key)
        if isinstance(value, GgufArray):
            items = [item for item in value.values if isinstance(item, int)]
            if value.length != n_layers or len(items) != n_layers:
                self.damaged(f"{key} has {value.length} items for {n_layers} layers")
            return items
        if value is None:
            return []
        return [self.count(name, 0, 2**31 - 1)] * n_layers

    def shown(self, key: str) -> str:
        value = self.header.metadata[key]
        if isinstance(value, GgufArray):
            return f"an array of {value.length} {value.item_type}"
        return repr(value)

    def dimensions(self) -> None:
        for name, wanted in _SCALAR_TYPES.items():
            found = self.header.types.get(self.key(name), wanted)
            if found not in (wanted, "arr"):
                self.damaged(f"{self.key(name)} is stored as {found}, not as {wanted}")
        self.count("context_length", 1, 2**31 - 1)
        self.count("embedding_length", 1, 2**24)
        n_layers = self.count("block_count", 1, MAX_LAYERS)
        self.count("nextn_predict_layers", 0, n_layers - 1, 0)
        heads = self.per_layer("attention.head_count", n_layers) or [0] * n_layers
        kv_heads = self.per_layer("attention.head_count_kv", n_layers) or heads
        for head, kv_head in zip(heads, kv_heads, strict=True):
            if head > 2**16 or kv_head > 2**16 or (kv_head and head % kv_head):
                self.damaged(f"{head} attention heads cannot share {kv_head} key-value heads")
        if self.arch in _FULL_ROTARY and not (heads[0] and kv_heads[0]):
            self.damaged(f"{self.key('attention.head_count')} is missing or 0")

    def experts(self) -> None:
        n_layers = self.count("block_count", 1, MAX_LAYERS)
        n_experts = self.count("expert_count", 0, MAX_EXPERTS, 0)
        used = max(self.per_layer("expert_used_count", n_layers), default=0)
        groups = self.count("expert_group_count", 0, MAX_EXPERTS, 0)
        groups_used = self.count("expert_group_used_count", 0, MAX_EXPERTS, 0)
        if n_experts == 0 and (used or groups) and not self.arch.startswith("hunyuan"):
            self.damaged(f"{used} experts are to be used, but there are none")
        single = self.arch.startswith("hunyuan") and n_experts == 1  # llama.cpp takes it as a dense model
        if n_experts and not single and not (1 <= used <= n_experts and groups < n_experts):
            self.damaged(f"{used} of {n_experts} experts in {groups} groups are to be used")
        if groups > 1 and (n_experts % groups or not 0 < groups_used < groups):
            self.damaged(f"{groups_used} of {groups} groups of {n_experts} experts are to be used")

    def rotary(self) -> None:
        header = self.header
        n_layers = self.count("block_count", 1, MAX_LAYERS)
        heads = self.per_layer("attention.head_count", n_layers)
        scaling = header.text(self.key("rope.scaling.type"))
        if scaling is not None and scaling not in ("none", "linear", "yarn", "longrope"):
            self.damaged(f"{self.key('rope.scaling.type')} is {scaling!r}, which llama.cpp does not know")
        if not heads or not heads[0]:
            return
        default = self.count("embedding_length", 1, 2**24) // heads[0]
        key_length = self.count("attention.key_length", 1, 2**16, default)
        value_length = self.count("attention.value_length", 1, 2**16, default)
        n_rot = self.count("rope.dimension_count", 0, 2**16, key_length)
        if n_rot > key_length or n_rot % 2 or (n_rot == 0 and self.arch not in _NO_ROTARY):
            self.damaged(f"{self.key('rope.dimension_count')} is {n_rot} for heads {key_length} wide")
        if self.arch in _FULL_ROTARY and not key_length == value_length == n_rot:
            self.damaged(
                f"the heads have {key_length} elements for keys, {value_length} for values and {n_rot} rotary ones; "
                f"{self.arch} needs them equal"
            )

    def numbers(self) -> None:
        for name, value in self.header.metadata.items():
            if isinstance(value, float) and name.startswith(f"{self.arch}.") and not math.isfinite(value):
                self.damaged(f"{name} is {value}")
            if name.endswith("epsilon") and isinstance(value, int | float) and not 0 <= value < 1:
                self.damaged(f"{name} is {value}")

    def tokenizer(self) -> None:
        header = self.header
        model = header.text("tokenizer.ggml.model")
        listed = header.array("tokenizer.ggml.tokens")
        if model is None or model in ("no_vocab", "none") or listed is None:
            self.fail("the file has no tokenizer in it: fetch a version converted with its tokenizer")
        if listed.item_type != "str" or listed.length == 0:
            self.damaged("tokenizer.ggml.tokens holds no texts")
        for name, kinds in (("scores", ("f32", "i32")), ("token_type", ("i32",))):
            array = header.metadata.get(f"tokenizer.ggml.{name}")
            if array is None:
                continue
            if not isinstance(array, GgufArray) or array.item_type not in kinds or array.length < listed.length:
                self.damaged(f"tokenizer.ggml.{name} does not fit the {listed.length} tokens")
        self.special_tokens(model, listed.length)
        self.token_texts(model, read_strings(header.path, listed))

    def special_tokens(self, model: str, n_tokens: int) -> None:
        header = self.header
        for key in header.metadata:
            if not (key.startswith("tokenizer.ggml.") and key.endswith("_token_id")):
                continue
            value = header.integer(key)
            if value is None or header.types[key] != "u32" or value >= n_tokens:
                self.damaged(f"{key} is {self.shown(key)}, but there are {n_tokens} tokens")
        defaults = _DEFAULT_SPECIAL.get(model, (None, None))
        for name, default in zip(("bos", "eos"), defaults, strict=True):
            added = header.metadata.get(f"tokenizer.ggml.add_{name}_token", False)
            present = f"tokenizer.ggml.{name}_token_id" in header.metadata or (
                default is not None and default < n_tokens
            )
            if added is True and not present:
                self.damaged(f"a {name.upper()} token is to be added, but the file does not say which")

    def token_texts(self, model: str, tokens: list[bytes]) -> None:
        # llama.cpp reads them as C strings, names empty ones itself, and asserts that no two are equal.
        texts = [token.partition(b"\0")[0] if b"\0" in token else token for token in tokens]
        known = {text or b"[EMPTY_%d]" % index for index, text in enumerate(texts)}
        if len(known) != len(texts):
            self.damaged(f"{len(texts) - len(known)} of the {len(texts)} tokens have the same text as another")
        if model == "llama":
            # Its tokenizer falls back to single bytes with an exception that crosses the C border.
            lost = [byte for byte in range(256) if b"<0x%02X>" % byte not in known and bytes([byte]) not in known]
            if lost:
                self.damaged(f"the vocabulary has no token for {len(lost)} of the 256 bytes")
