"""Every exception this project raises on purpose.

Each carries a message a user can act on: it names the thing that is wrong and says what to do. The command line prints
the message and leaves with `exit_code`; the app shows it as a notice. Anything else that escapes is a bug.

    TuiChatError
    ├── UsageError                 wrong arguments (exit 2)
    │   ├── ConfigError            a settings file, variable or flag that does not hold
    │   ├── ThemeError             a theme file that does not hold
    │   ├── TemplateError          a chat template that does not parse or refuses the messages
    │   ├── SamplingError          sampling settings or a distribution that do not hold
    │   │   └── GrammarError       a grammar or JSON schema that does not parse, or that nothing can obey
    │   └── BreakpointError        a breakpoint that does not parse
    ├── ModelError                 a model cannot be used (exit 1)
    │   ├── ModelNotFoundError     no such file, name or repository entry
    │   ├── ModelFileError         the file is not a whole, usable GGUF model
    │   ├── ModelLoadError         llama.cpp refused it (an architecture it does not know)
    │   │   └── ModelMemoryError   there is not enough memory for it
    │   └── DownloadError          the Hub did not give the file
    ├── EngineError                inference went wrong (exit 1)
    │   ├── PromptTooLongError     the prompt does not fit into the context
    │   ├── DecodeError            llama.cpp could not evaluate a batch
    │   └── CancelledError         the user stopped it (exit 130)
    ├── StorageError               the data directory or database cannot be used (exit 1)
    └── TraceError                 a trace file cannot be used (exit 1)
"""

from __future__ import annotations

from pathlib import Path


class TuiChatError(Exception):
    """Base of all errors meant for the user."""

    exit_code = 1
    """Process exit status when this error ends a command."""


class UsageError(TuiChatError):
    """The program was asked for something it cannot mean."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, of the wrong type or out of range.

    Args:
        message: What is wrong and what to write instead.
        source: The file, environment variable or flag the setting came from.
        key: Dotted name of the setting, if one is to blame.
    """

    def __init__(self, message: str, *, source: str | None = None, key: str | None = None) -> None:
        super().__init__(f"{source}: {message}" if source else message)
        self.source = source
        self.key = key


class ThemeError(UsageError):
    """A theme file cannot be read or holds invalid values."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class TemplateError(UsageError):
    """A chat template does not parse, or raised on these messages."""


class SamplingError(UsageError):
    """Sampling settings are out of range, or a distribution has nothing to draw from."""


class GrammarError(SamplingError):
    """A grammar or a JSON schema does not hold.

    Args:
        message: What is wrong and what to write instead.
        line: Where, counted from 1; 0 where no place can be named.
        column: Where in that line, in characters from 1.
        source: What holds the text: a file, or "grammar".
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0, source: str = "grammar") -> None:
        place = f", line {line}, column {column}" if line else ""
        super().__init__(f"{source}{place}: {message}")
        self.message, self.line, self.column = message, line, column


class BreakpointError(UsageError):
    """A breakpoint does not parse.

    Args:
        message: What is wrong and what to write instead.
        column: Where, counted from 1.
    """

    def __init__(self, message: str, *, column: int) -> None:
        super().__init__(f"breakpoint, column {column}: {message}")
        self.column = column


class ModelError(TuiChatError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError):
    """Nothing is there under the given path, name or `repo:file`."""


class ModelFileError(ModelError):
    """The file is empty, truncated, not GGUF, or has no weights in it."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class ModelLoadError(ModelError):
    """llama.cpp could not load a file that looked whole."""


class ModelMemoryError(ModelLoadError):
    """The weights or the KV cache do not fit into memory; without another model they might."""


class DownloadError(ModelError):
    """A file could not be fetched from the Hub and is not in the cache."""


class EngineError(TuiChatError):
    """Inference failed; the next request may still work."""


class PromptTooLongError(EngineError):
    """The prompt has more tokens than the context can hold.

    Args:
        n_prompt: Tokens in the prompt.
        n_ctx: Tokens the context holds.
    """

    def __init__(self, n_prompt: int, n_ctx: int) -> None:
        super().__init__(
            f"the prompt has {n_prompt:,} tokens but the context holds {n_ctx:,}, one of them for the answer: "
            "shorten the prompt or raise n_ctx"
        )
        self.n_prompt = n_prompt
        self.n_ctx = n_ctx


class DecodeError(EngineError):
    """llama.cpp could not evaluate a batch."""


class CancelledError(EngineError):
    """The user stopped the work before it was done."""

    exit_code = 130


class StorageError(TuiChatError):
    """The data directory or the database in it cannot be used."""


class TraceError(TuiChatError):
    """A trace file cannot be read or written, or is of another version or another model."""
