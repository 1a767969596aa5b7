"""Inference: a model, its cache, the sampler chain and the thread they live on. Knows nothing of chats or screens."""
