"""Training: corpus → BPE → transformer → checkpoints, which `tui_chat.checkpoints` reads and exports.

A corpus becomes rows of ids

    texts.py         text files, folders, conversations, the built-in corpus: read; split.py keeps some for validation
    tokenizer.py     byte-level BPE
    windows.py       text as rows; packing.py conversations; memmap.py keeps both on disk; dataset.py is what they share
    sources.py       the files of the built-in corpus, read
    grammar.py       dialogues made of them; skills.py those with a slot to fill; dialogue.py one dialogue in ChatML

A model learns from them

    config.py        how, as one value; presets.py the ones with a name
    llama.py         one architecture; gpt2.py the other; attention.py what is common to both
    train.py         a training from its corpus to its last checkpoint
    prepare.py       tokenizer and rows; planning.py sizes, steps, device; estimate.py memory; device.py what there is
    loop.py          the steps; optimizer.py what changes the weights; distributed.py several processes
    checkpoint.py    saving and going on; run_folder.py the lock and the record; events.py what is told
    continuation.py  what the model writes meanwhile; evaluate.py how good the built-in one is

Needs the extra `train` (PyTorch), but for what only reads and describes: `config`, `events`, `presets`, `estimate`.
"""
