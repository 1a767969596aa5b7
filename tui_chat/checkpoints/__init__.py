"""What a training leaves behind: checkpoints, their facts, the runs they belong to, and how they become GGUF files.

Nothing here needs PyTorch: the program lists, describes, exports and chats with what was trained without it. The
package `training` writes what this one reads.
"""
