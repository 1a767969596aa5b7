"""Training: written corpus → dialogues → BPE → transformer → checkpoints → GGUF.

    sources.py     the corpus files, read
    dialogue.py    one dialogue and its ChatML text
    grammar.py     dialogues made from the corpus: topics, small talk, composition
    skills.py      dialogues with a slot to fill: sums, facts, names, haiku, stories
    tokenizer.py   byte-level BPE
    dataset.py     ids and loss weights, packed into rows
    model.py       the decoder
    train.py       the loop; checkpoint.py keeps its state
    export.py      GGUF
    evaluate.py    how good the model is on wordings it never saw

`python -m tui_chat.training` runs the whole way. Needs the extra `train` (PyTorch); nothing else in the program does.
"""
