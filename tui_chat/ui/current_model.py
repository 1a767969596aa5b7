"""The model of a session: the one that answers, its vocabulary, and another one on its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tui_chat.config import Settings
from tui_chat.engine.types import ModelFailed, ModelInfo, ModelLoaded, ModelLoading
from tui_chat.ui.news import DownloadAdvanced, DownloadEnded, DownloadFailed, News, PiecesRead
from tui_chat.ui.pieces import read_pieces
from tui_chat.ui.ports import Ask, Downloads, Worker
from tui_chat.ui.progress import Loading

if TYPE_CHECKING:
    from tui_chat.models.resolve import ModelSpec

ModelEvent = ModelLoading | ModelLoaded | ModelFailed | DownloadAdvanced | DownloadEnded | DownloadFailed | PiecesRead
"""What other threads report of models."""


class CurrentModel:
    """Fetches and loads models, one after the other.

    Args:
        settings: How to load them, and which one where none is named.
        worker: The engine thread.
        downloads: Fetches models from the Hub.
        report: Brings news from any thread back to the session.
        check_tokenizer: Told of every model that was loaded, with a way to ask the engine.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        downloads: Downloads,
        report: Callable[[News], None],
        check_tokenizer: Callable[[Ask], None] | None,
    ) -> None:
        self.info: ModelInfo | None = None
        """The model that answers."""
        self.loading: Loading | None = None
        """The one on its way."""
        self.pieces: list[bytes] = []
        """The bytes of its tokens, as far as they are known."""
        self._settings = settings
        self._worker = worker
        self._downloads = downloads
        self._report = report
        self._check_tokenizer = check_tokenizer
        self._load_id = 0

    def start(self, model: str | None) -> None:
        """Begins to load a model.

        Args:
            model: As the user names it; None takes what the settings say.

        Raises:
            ModelNotFoundError: Nothing is there under that name.
        """
        from tui_chat.models.resolve import parse_spec, spec_from_settings

        llm = self._settings.llm
        if model is not None:
            spec = parse_spec(model)
        else:
            spec = spec_from_settings(path=llm.path, repo=llm.repo, file=llm.file, branch=llm.branch)
        self.switch(spec)

    def switch(self, spec: ModelSpec) -> None:
        """Begins to fetch and load a model; the present one answers until the new one is there."""
        if self.loading is not None:
            self._downloads.cancel()
        if spec.kind in ("hub", "checkpoint"):
            self.loading = Loading(spec.label, download=self._downloads.fetch(spec))
        else:
            from tui_chat.models.resolve import file_of

            self._load(file_of(spec), spec.label)

    def take(self, event: ModelEvent) -> bool:
        """Takes in what another thread reports; False if it is stale and to be ignored."""
        match event:
            case PiecesRead(load_id, first, pieces):
                if load_id != self._load_id or first != len(self.pieces):
                    return False
                self.pieces.extend(pieces)
                self._read_pieces()
                return True
            case ModelLoading() | ModelLoaded() | ModelFailed():
                return self._loaded(event)
        return self._downloaded(event)

    def _loaded(self, event: ModelLoading | ModelLoaded | ModelFailed) -> bool:
        # What an earlier load did to the model holds as well; only the display is the last one's.
        loading = self.loading
        shown = loading is not None and loading.request_id == event.request_id
        if isinstance(event, ModelLoading):
            if loading is not None and shown:
                loading.fraction = event.fraction
            return shown
        if shown:
            self.loading = None
        if isinstance(event, ModelLoaded):
            self.info = event.info
            self.pieces = []
            self._load_id = event.request_id
            self._read_pieces()
            if self._check_tokenizer is not None:
                self._check_tokenizer(self._worker.run)
        elif not event.kept:
            self.info = None
        return True

    def _downloaded(self, event: DownloadAdvanced | DownloadEnded | DownloadFailed) -> bool:
        loading = self.loading
        if loading is None or loading.download != event.number:
            return False
        if isinstance(event, DownloadAdvanced):
            loading.progress = event.progress
            loading.fraction = event.progress.fraction
        elif isinstance(event, DownloadEnded):
            self._load(event.path, loading.label)
        else:
            self.loading = None
        return True

    def _load(self, path: Path, label: str) -> None:
        options = self._settings.llm.load_options(self._settings.tokenizer.eos_token)
        self.loading = Loading(label, request_id=self._worker.load(path, options), fraction=0.0)

    def _read_pieces(self) -> None:
        if self.info is not None and len(self.pieces) < self.info.n_vocab:
            read_pieces(self._worker.run, self._load_id, len(self.pieces), self.info.n_vocab, self._report)
