"""A model folder, with its card and its tokenizer, as a repository of the hub."""

from pathlib import Path

from mtdnn import encoder as enc
from mtdnn.model import load_model
from mtdnn.model_card import CARD


def publish(model: Path, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload a model folder of a run with the card that the run wrote; its address.

    :param model: a model folder of ours; checked against its manifest first.
    :param private: of a repository that is made; by default as the account has it.
    :param token: by default the one that ``hf auth login`` stored.
    :raises CheckpointError: when the folder is damaged.
    :raises ConfigError: when the hub cannot be reached or refuses it.
    """
    loaded, tokenizer = load_model(model), enc.load_tokenizer(str(model))
    card = (model / CARD).read_text(encoding="utf-8") if (model / CARD).is_file() else None
    return loaded.push_to_hub(repo_id, tokenizer=tokenizer, card=card, private=private, token=token)
