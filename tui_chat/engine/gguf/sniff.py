"""Says what a file is that was taken for a GGUF model and is not one."""

from __future__ import annotations

import json


def describe_foreign(head: bytes, size_bytes: int) -> str:
    """One sentence on what the file looks like and what to fetch instead.

    Args:
        head: The first bytes of the file, a few thousand at most.
        size_bytes: The size of the whole file.
    """
    if head.startswith(b"version https://git-lfs"):
        return (
            f"not a model but a Git LFS pointer of {size_bytes} bytes, which only names the real file: "
            "run `git lfs pull`, or fetch the file itself"
        )
    if head[:4] in (b"ggml", b"lmgg", b"ggmf", b"fmgg", b"ggjt", b"tjgg", b"ggla", b"algg"):
        return "an old GGML file from before GGUF, which llama.cpp no longer reads: fetch a .gguf version of the model"
    if head[:4] in (b"GGUf", b"FUGG"):
        return "a byte-swapped GGUF file: fetch the little-endian version"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27:
        return "a safetensors file, not GGUF: fetch a .gguf version of the model, or convert it"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive, as PyTorch checkpoints are, not GGUF: fetch a .gguf version of the model"
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, as old PyTorch checkpoints are, not GGUF: fetch a .gguf version of the model"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive, not GGUF: unpack it first"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, not GGUF: fetch a .gguf version of the model"
    if not head.strip(b"\0"):
        return "only zero bytes where the header should be: the download was cut short, fetch it again"
    return _describe_text(head, size_bytes)


def _describe_text(head: bytes, size_bytes: int) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not a model: the address led to a page about the file, fetch the file itself"
    if start.startswith((b"{", b"[")):
        kind = "a JSON file"
        try:
            document = json.loads(head)
            if isinstance(document, dict) and "error" in document:
                return f"not a model but a server's answer: {str(document['error'])[:200]}"
        except ValueError:
            pass
        return f"{kind}, not GGUF: name the .gguf file"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return f"not a GGUF model: it begins with the bytes {head[:4].hex(' ')}"
    if b"\0" in head:
        return f"not a GGUF model: it begins with the bytes {head[:4].hex(' ')}"
    return f"a text file of {size_bytes} bytes, not a GGUF model"
