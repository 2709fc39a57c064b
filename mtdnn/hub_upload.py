"""A folder as a model repository of the hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from mtdnn.errors import ConfigError

REFUSED = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError)


def upload(folder: Path, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Put every file of a folder into a model repository, which is made where there is none; its address.

    :param private: of a repository that is made; by default as the account has it.
    :param token: by default the one that ``hf auth login`` stored.
    :raises ConfigError: when the hub cannot be reached or refuses it.
    """
    api = HfApi(token=token)
    try:
        made = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload an mtdnn model")
    except REFUSED as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise ConfigError(f"repository '{repo_id[:100]}': {reason}; hf auth login stores a token") from error
    return str(made)
