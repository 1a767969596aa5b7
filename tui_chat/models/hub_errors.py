"""Says in one sentence why the Hub did not give a file, and what to do about it."""

from __future__ import annotations

import errno


class Unreachable(Exception):  # noqa: N818 - a state, turned into a `DownloadError` at once
    """The Hub was not reached and the cache has no copy."""

    def __init__(self, address: str, cache: str) -> None:
        super().__init__(address, cache)
        self.address = address
        self.cache = cache


def format_size(size_bytes: float) -> str:
    """Bytes for people, in powers of 1000: `4.7 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.4g} TB"


def is_unreachable(error: BaseException) -> bool:
    """Whether the network or the server is down, rather than the request wrong."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    if isinstance(
        error, OfflineModeIsEnabled | LocalEntryNotFoundError | FileMetadataError | ConnectionError | TimeoutError
    ):
        return True
    return any(base.__name__ in ("TransportError", "RequestException") for base in type(error).__mro__)


def explain(error: BaseException, *, repo: str, file: str, branch: str, endpoint: str | None) -> str:
    """One sentence for people: what is wrong and what to do.

    Args:
        error: What the library raised.
        repo: The repository that was asked for.
        file: The file in it.
        branch: The branch, tag or commit.
        endpoint: Address of the Hub; None is the library's own.
    """
    from huggingface_hub import constants, errors

    address = endpoint or constants.ENDPOINT
    page = f"{address}/{repo}"
    match error:
        case Unreachable():
            return (
                f"{error.address} cannot be reached and {repo}:{file} is not in the cache ({error.cache}): "
                "check the connection, or HF_ENDPOINT if it is set"
            )
        case errors.GatedRepoError():
            return (
                f"{repo} is gated: accept its terms on {page}, then log in with `hf auth login` or set HF_TOKEN to a "
                "token that may read it"
            )
        case errors.RevisionNotFoundError():
            return f"{repo} has no branch, tag or commit {branch!r}: see {page}"
        case errors.EntryNotFoundError():
            return f"{repo} ({branch}) has no file {file!r}{_files(repo, branch, endpoint)}"
        case errors.RepositoryNotFoundError():
            return (
                f"there is no repository {repo} on {address}, or it is private: check the spelling; for a private one, "
                "log in with `hf auth login` or set HF_TOKEN"
            )
        case errors.HFValidationError():
            return f"{repo!r} is not the name of a repository: write owner/name"
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status in (401, 403):
                return f"{address} refuses access to {repo} ({status}): log in with `hf auth login` or check HF_TOKEN"
            if status == 429:
                return f"{address} asks for patience (too many requests): try again in some minutes, or log in"
            return f"{address} answered {status} for {repo}:{file}: try again later"
        case OSError() if error.errno == errno.ENOSPC:
            return "the disk is full: make room, or set HF_HOME to a directory on another disk"
        case PermissionError():
            return f"the cache cannot be written ({error.filename}): change its permissions, or set HF_HOME"
        case _ if is_unreachable(error):
            return f"the connection to {address} broke while fetching {repo}:{file} ({_short(error)}): try again"
        case OSError() if "Consistency check failed" in str(error):
            return f"{repo}:{file} came in with the wrong size: fetch it again"
        case _:
            return f"{repo}:{file} could not be fetched from {address}: {_short(error)}"


def _files(repo: str, branch: str, endpoint: str | None) -> str:
    """The model files that the repository does have, as the tail of a sentence."""
    from huggingface_hub import HfApi

    try:
        names = HfApi(endpoint=endpoint).list_repo_files(repo, revision=branch)
    except Exception:  # only a help: without it the sentence is still right
        return ""
    models = sorted(name for name in names if name.endswith(".gguf"))
    if not models:
        return ", nor any other .gguf file: look for a GGUF version of the model"
    more = f" and {len(models) - 6} more" if len(models) > 6 else ""
    return f"; it has {', '.join(models[:6])}{more}"


def _short(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return text[:200] or type(error).__name__
