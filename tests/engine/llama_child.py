"""Run as a program: loads each file named on stdin through llama.cpp, makes a context and evaluates two tokens.

Prints `start N` before and `end N STATUS` after each file, so that the parent knows which one ended the process.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp


def _quiet(level: int, text: bytes, data: object) -> None: ...


def try_file(path: bytes) -> str:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(path, params)
    if not model:
        return "refused"
    try:
        vocab = llama_cpp.llama_model_get_vocab(model)
        ids = (llama_cpp.llama_token * 64)()
        text = "hello \N{SNOWMAN} <|im_end|>".encode()
        count = llama_cpp.llama_tokenize(vocab, text, len(text), ids, 64, True, True)
        if count < 1:
            return "no tokens"
        context_params = llama_cpp.llama_context_default_params()
        context_params.n_ctx = 64
        context_params.n_threads = context_params.n_threads_batch = 1
        context = llama_cpp.llama_init_from_model(model, context_params)
        if not context:
            return "no context"
        tokens = (llama_cpp.llama_token * 2)(ids[0], ids[count - 1])
        code = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 2))
        llama_cpp.llama_free(context)
        return f"decoded {code}"
    finally:
        llama_cpp.llama_model_free(model)


def main() -> None:
    callback = llama_cpp.llama_log_callback(_quiet)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    for number, line in enumerate(sys.stdin.buffer):
        print("start", number, flush=True)
        print("end", number, try_file(line.rstrip(b"\n")), flush=True)


if __name__ == "__main__":
    main()
