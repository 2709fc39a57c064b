"""Any AutoModel encoder: where its sites are, passes that start in its middle, and one vector per row.

A site is where a perturbation is added: ``word``, the word-embedding table's output; ``embeddings``,
the whole embedding block's; ``layer:<r>``, layer r's (from 1). ``embeddings_twice`` is the official code's slip, kept
for its preset: the block's output is fed back as word embeddings, so that the block applies a second time.
A pass records the outputs at and below its sites; a resumed pass returns those records instead of computing them, so
that what lies below a site is applied exactly once.
"""

import importlib.util
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from mtdnn.dropout import DropoutTape
from mtdnn.errors import ConfigError, EncoderError, unknown
from mtdnn.families import STOCK, check_usable
from mtdnn.hub import hub_answers

Pool = Literal["native", "mean", "first"]
PACKAGE_PREFIX = "package:"
TWICE = "embeddings_twice"
UNREADABLE = (OSError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError)  # not there, damaged, or unsafe


@dataclass(frozen=True)
class Tap:
    """One output below or at a site: whose it is, what it was, and how many dropout masks had been used by then."""

    module: nn.Module
    output: Any
    num_masks: int


@dataclass
class Record:
    """What a recording pass leaves for resumed ones, by site.

    :ivar shortened: whether the last layer was computed for its first token alone.
    """

    taps: dict[str, Tap] = field(default_factory=dict)
    masks: list[Tensor] = field(default_factory=list)
    shortened: bool = False


class Pooler(nn.Module):
    """One vector per row from the last hidden states.

    ``native`` is the first token through a dense layer, as in the family's stock classifier; ``mean`` the mean over
    real tokens; ``first`` the first token as it is.

    :param dropout: before the dense layer, where the family has it there.
    :param norm_eps: of the layer norm behind it, where the family has one.
    """

    def __init__(
        self,
        *,
        kind: Pool,
        hidden_size: int,
        model_type: str = "bert",
        dropout: float = 0.1,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        self.kind = kind
        if kind == "native":
            if model_type not in STOCK:
                raise ConfigError(
                    f"encoder.pool: 'native' is not known for {model_type} encoders; use mean or first "
                    f"(native: {', '.join(sorted(STOCK))})"
                )
            stock = STOCK[model_type]
            self.before = nn.Dropout(dropout if stock.dropout_before else 0.0)
            self.dense = nn.Linear(hidden_size, hidden_size, bias=stock.norm is None)
            self.activation = ACT2FN[stock.activation]
            self.norm = nn.LayerNorm(hidden_size, eps=norm_eps, bias=False) if stock.norm else nn.Identity()

    def forward(self, hidden_NTD: Tensor, mask_NT: Tensor) -> Tensor:
        if self.kind == "mean":
            mask_NT1 = mask_NT.unsqueeze(-1).to(hidden_NTD.dtype)
            return (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1)
        first_ND = hidden_NTD[:, 0]
        if self.kind == "first":
            return first_ND
        return self.norm(self.activation(self.dense(self.before(first_ND))))  # type: ignore[no-any-return]


def encoder_folder(path: str) -> str:
    """A hub id or folder as it is; ``package:<package>/<folder>`` as the folder inside the installed package."""
    if not path.startswith(PACKAGE_PREFIX):
        return path
    package, _, inside = path.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise EncoderError(
            f"encoder '{path}': no installed Python package '{package}'; pip install it (dashes for underscores)"
        )
    root = Path(spec.submodule_search_locations[0]).resolve()
    folder = (root / inside).resolve()
    if not folder.is_relative_to(root) or not (folder / "config.json").is_file():
        raise EncoderError(f"encoder '{path}': {root} holds no folder '{inside}' with a config.json")
    return str(folder)


def _load(kind: Any, path: str, **kwargs: Any) -> Any:
    """``from_pretrained`` from this machine when it is there, else from the hub when that answers; else one error."""
    folder = encoder_folder(path)
    kwargs["trust_remote_code"] = False
    try:
        return kind.from_pretrained(folder, local_files_only=True, **kwargs)
    except UNREADABLE as error:
        local: Exception = error
    if not Path(folder).exists() and hub_answers():
        try:
            return kind.from_pretrained(folder, **kwargs)
        except UNREADABLE as error:
            local = error
    reason = next(iter(str(local).strip().splitlines()), type(local).__name__)[:200]
    raise EncoderError(
        f"encoder '{path}' cannot be loaded: {reason} Give a hub id that is in the hub's cache on this machine "
        "(or a network that reaches the hub), a local folder with config.json and weights, or "
        "package:<installed package>/<folder>"
    ) from local


def load_config(path: str) -> PretrainedConfig:
    """The architecture; EncoderError when it cannot be had, or is not an encoder."""
    config: PretrainedConfig = _load(AutoConfig, path)
    check_usable(config, where=f"encoder '{path}'")
    return config


def load_tokenizer(path: str) -> Any:
    tokenizer = _load(AutoTokenizer, path)
    if tokenizer.pad_token_id is None:
        raise EncoderError(f"encoder '{path}': its tokenizer has no padding token")
    return tokenizer


def load_weights(path: str, config: PretrainedConfig) -> PreTrainedModel:
    """The pretrained encoder; without a pooler where the checkpoint has no weights for it.

    Weights that are only there as ``pytorch_model.bin``, as of many older encoders, are read by torch's unpickler for
    tensors and plain values alone.

    :raises EncoderError: when the checkpoint lacks weights of the encoder itself, which would be random.
    """
    asked = {"dtype": torch.float32, "output_loading_info": True, "weights_only": True}
    model, report = _load(AutoModel, path, config=config, **asked)
    missing = sorted(report["missing_keys"])
    if any(name.startswith("pooler.") for name in missing):
        model.pooler = None
    lost = [name for name in missing if not name.startswith("pooler.")]
    if lost:
        raise EncoderError(f"encoder '{path}': its checkpoint lacks {len(lost)} weights, such as {lost[0]}")
    return model  # type: ignore[no-any-return]


def embedding_block(encoder: PreTrainedModel) -> nn.Module:
    block = getattr(encoder, "embeddings", None)
    if not isinstance(block, nn.Module):
        raise EncoderError(f"{type(encoder).__name__} has no embedding block called 'embeddings'; use site: word")
    return block


def layers(encoder: PreTrainedModel) -> nn.ModuleList:
    """The stack of layers: the one list of modules as long as the configuration says."""
    count = encoder.config.num_hidden_layers
    stacks = [m for m in encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not stacks:
        raise EncoderError(
            f"{type(encoder).__name__}: no list of {count} layers found (some share one layer's weights, as ALBERT's "
            "do); use site: word or embeddings, and leave activation_checkpointing out"
        )
    return stacks[0]


def modules_up_to(encoder: PreTrainedModel, site: str) -> dict[str, nn.Module]:
    """The modules whose outputs a pass resumed at ``site`` takes from the record; the site's own comes last."""
    if site in ("word", TWICE):
        return {site: encoder.get_input_embeddings()}
    found = {"embeddings": embedding_block(encoder)}
    if site == "embeddings":
        return found
    kind, _, number = site.partition(":")
    if kind != "layer" or not number.isdigit():
        raise ConfigError(f"site: {unknown('site', site, ['word', 'embeddings', 'layer:<r>', TWICE])}")
    stack = layers(encoder)
    if not 1 <= int(number) <= len(stack):
        raise ConfigError(f"site: '{site}' is not there; this encoder has layers 1 to {len(stack)}")
    return found | {f"layer:{index}": stack[index - 1] for index in range(1, int(number) + 1)}


@contextmanager
def recording(encoder: PreTrainedModel, sites: Sequence[str], record: Record, masks: list[Tensor]) -> Iterator[None]:
    """While entered, the outputs at and below ``sites`` go into ``record``."""
    replaced = {name: module for site in sites for name, module in modules_up_to(encoder, site).items()}
    handles = []
    for name, module in replaced.items():

        def note(_: nn.Module, _args: Any, output: Any, name: str = name, module: nn.Module = module) -> None:
            record.taps[name] = Tap(module, output, 0 if name == TWICE else len(masks))

        watched = embedding_block(encoder) if name == TWICE else module
        handles.append(watched.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def resuming(
    encoder: PreTrainedModel,
    record: Record,
    site: str,
    delta_NTD: Tensor | None,
    *,
    dtype: torch.dtype | None = None,
    detach: bool = False,
) -> Iterator[None]:
    """While entered, modules up to ``site`` return their records, with ``delta`` added at the site.

    :param detach: the records as constants: nothing below the site gets a gradient.
    """
    with ExitStack() as stack:
        for name in modules_up_to(encoder, site):
            tap = record.taps[name]
            output = changed_hidden(tap.output, lambda hidden_NTD: hidden_NTD.detach()) if detach else tap.output
            output = shifted(output, delta_NTD if name == site else None, dtype)
            stack.enter_context(_returning(tap.module, output))
        yield


@contextmanager
def adding(encoder: PreTrainedModel, site: str, delta_NTD: Tensor | None) -> Iterator[None]:
    """While entered, ``delta`` is added to what the module at ``site`` puts out."""
    if delta_NTD is None:
        yield
        return
    *_, module = modules_up_to(encoder, site).values()
    handle = module.register_forward_hook(lambda _module, _args, output: shifted(output, delta_NTD, None))
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def width_at(encoder: PreTrainedModel, site: str) -> int:
    """The width D of the hidden states at a site."""
    record, one = Record(), torch.zeros(1, 1, dtype=torch.long, device=encoder.device)
    with DropoutTape(off=True), recording(encoder, [site], record, []):
        encode(encoder, {"input_ids": one, "attention_mask": one + 1, "token_type_ids": one})
    return hidden_of(record.taps[site]).shape[-1]


def shifted(output: Any, delta_NTD: Tensor | None, dtype: torch.dtype | None) -> Any:
    """A module's output with ``delta`` added to its hidden states."""

    def moved(hidden_NTD: Tensor) -> Tensor:
        hidden_NTD = hidden_NTD if dtype is None else hidden_NTD.to(dtype)
        return hidden_NTD if delta_NTD is None else hidden_NTD + delta_NTD.to(hidden_NTD.dtype)

    return changed_hidden(output, moved)


def changed_hidden(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with ``change`` applied to its hidden states, which come first if there are several outputs."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


@contextmanager
def _returning(module: nn.Module, output: Any) -> Iterator[None]:
    module.forward = lambda *args, **kwargs: output  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward  # the class's own method shows again


def hidden_of(tap: Tap) -> Tensor:
    hidden: Tensor = tap.output[0] if isinstance(tap.output, tuple) else tap.output
    return hidden


def reads_types(encoder: PreTrainedModel) -> bool:
    """Whether it tells the texts of a pair apart by token types."""
    return bool(getattr(encoder.config, "type_vocab_size", 0) >= 2)


def encode(encoder: PreTrainedModel, inputs_NT: Mapping[str, Tensor]) -> Tensor:
    """Last hidden states: (N, T, D)."""
    wanted = {name: value for name, value in inputs_NT.items() if name != "token_type_ids" or reads_types(encoder)}
    hidden: Tensor = encoder(**wanted).last_hidden_state
    return hidden
