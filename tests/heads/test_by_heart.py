"""Loss, decoding and metrics belong together: what is learned by heart is answered right."""

import pytest
import torch

from mtdnn.data.batch import make_batch
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.metrics.base import compute
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer


@pytest.mark.parametrize(("name", "max_length"), [("everyday_tagging", 32), ("everyday_reading", 36)])
def test_some_examples_are_learned_by_heart(name, max_length):
    task = load_tasks()[name]
    model = tiny_model([task], pool="native", max_length=max_length)
    head = model.head(name)
    data = load_split(find_source(task, "test"), head, tiny_tokenizer(), max_length=max_length)
    batch = make_batch(data, range(6), head, pad_id=0)
    assert (len(batch.mask_NT) > 6) == (name == "everyday_reading")  # in windows
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.eval()
    for _ in range(200):
        loss = model.loss(model.run(batch).logits, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    gold = [head.gold(targets, texts) for targets, texts in zip(data.targets, data.texts(), strict=True)][:6]
    found = compute(task.metrics, head.decode(model.run(batch).logits, batch), gold)
    assert set(found.values()) == {1.0}
