"""What `doctor` says of the configured tokenizer: whether the configured model's own is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_chat.cli.inference import LoadedModel, find_model
from tui_chat.errors import DownloadError, TuiChatError
from tui_chat.models.hub import fetch
from tui_chat.models.tokenizer_check import PROBE, compare_tokenizers, load_tokenizer

if TYPE_CHECKING:
    from tui_chat.config import LoadedSettings


def tokenizer_facts(loaded: LoadedSettings) -> dict[str, Any] | None:
    """The comparison, without any download; None where `tokenizer.repo` and `tokenizer.file` are not both set.

    `equal` is None where nothing could be compared; `result` is one sentence.
    """
    repo, file = loaded.settings.tokenizer.repo, loaded.settings.tokenizer.file
    if not repo or not file:
        return None
    settings = loaded.settings
    # The context is not used, only the vocabulary.
    settings = settings.model_copy(update={"llm": settings.llm.model_copy(update={"n_ctx": 256, "n_gpu_layers": 0})})
    equal: bool | None = None
    try:
        reference = load_tokenizer(fetch(repo, file, offline=True).path)
        with LoadedModel(find_model(loaded, None, offline=True), settings) as model:
            ids = model.run(lambda engine: engine.vocab.tokenize(PROBE))
        comparison = compare_tokenizers(lambda _: ids, reference)
        equal, result = comparison.equal, str(comparison)
    except DownloadError:
        result = "not compared: the tokenizer or the model is not in the cache yet; the app fetches both"
    except TuiChatError as error:
        result = f"not compared: {error}"
    return {"repo": repo, "file": file, "equal": equal, "result": result}
