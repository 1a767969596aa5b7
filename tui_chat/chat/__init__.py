"""What is said: the conversation, the prompt made of it, and its storage. Pure: no threads, no screen."""
