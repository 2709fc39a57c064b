"""Nearest words on a hand-made embedding table, whose cosines are those of angles."""

import math

import pytest
import torch
from support import NLI, RANK, STS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mtdnn.analysis.neighbours import find_neighbours, nearest
from mtdnn.analysis.perturbed import batch_of, method_at, options_from, perturbed
from mtdnn.analysis.words import WordTable, hidden_at, read, token_words, vocabulary_words, word_table
from mtdnn.errors import ConfigError, DataError
from mtdnn.predictor import Predictor
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.perturbing import Perturbation, Perturbing
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

ANGLES = {"dog": 0, "cat": 10, "horse": 30, "child": 80, "garden": 90}  # degrees; every other word stands at 180
TEXT = ("Some dog sleeps", None)


def direction(degrees):
    """A vector of norm 1 and mean 0, which the layer norm of the embedding block only scales: (32,)."""
    angle = math.radians(degrees)
    vector_D = torch.zeros(32)
    vector_D[:4] = torch.tensor([math.cos(angle), math.sin(angle), -math.cos(angle), -math.sin(angle)]) / math.sqrt(2)
    return vector_D


class TurnedToTheGarden(Perturbing):
    """Adds, at every token, what turns the dog into the garden."""

    sites = ("embeddings",)
    dropout = "off"

    def perturbation(self, model, batch, clean, rng):
        change_D = (direction(90) - direction(0)) * math.sqrt(32)  # the layer norm makes every vector this long
        return Perturbation("embeddings", change_D.expand_as(clean.hidden("embeddings")))


@pytest.fixture
def by_angle(monkeypatch):
    """A predictor whose words point where ``ANGLES`` says, without positions or segments."""
    model = tiny_model([NLI, STS, RANK], max_length=32).eval()
    tokenizer = tiny_tokenizer()
    block = model.encoder.embeddings
    with torch.no_grad():
        block.position_embeddings.weight.zero_()
        block.token_type_embeddings.weight.zero_()
        block.word_embeddings.weight.copy_(direction(180).expand_as(block.word_embeddings.weight))
        for word, degrees in ANGLES.items():
            block.word_embeddings.weight[tokenizer.get_vocab()[word]] = direction(degrees)
    monkeypatch.setitem(REGULARIZERS._components, "turned", TurnedToTheGarden)
    return Predictor(model, tokenizer)


@pytest.fixture(scope="module")
def tiny():
    return Predictor(tiny_model([NLI, STS, RANK], max_length=32).eval(), tiny_tokenizer())


def cosine(degrees):
    return pytest.approx(math.cos(math.radians(degrees)), abs=1e-4)


def test_neighbours_before_and_after_a_known_turn_have_the_cosines_of_the_angles(by_angle):
    found = find_neighbours(by_angle, TEXT, word="Dog", method="turned", top=3)
    assert [(each.word, each.cosine) for each in found.before] == [
        ("cat", cosine(10)),
        ("horse", cosine(30)),
        ("child", cosine(80)),
    ]
    assert [(each.word, each.cosine) for each in found.after] == [
        ("garden", cosine(0)),
        ("child", cosine(10)),
        ("horse", cosine(60)),
    ]
    assert found.own_cosine == cosine(90)
    assert found.relative_size == pytest.approx(math.sqrt(2), abs=1e-3)
    assert found.summary().startswith("2 of 3 words stay")


def test_among_the_words_of_a_file_only_those_are_compared(by_angle, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("A child, a dog.\nThe garden\n")
    found = find_neighbours(by_angle, TEXT, word="dog", method="turned", among=path, top=2)
    assert found.num_words == 4  # a, child, the, garden
    assert [(each.word, each.cosine) for each in found.before] == [("child", cosine(80)), ("garden", cosine(90))]
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="no rows"):
        find_neighbours(by_angle, TEXT, word="dog", method="turned", among=tmp_path / "empty.txt")


def test_a_file_of_pairs_is_read_by_the_columns_of_the_task(by_angle, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,label\ncat,horse,yes\n")
    found = find_neighbours(by_angle, TEXT, word="dog", method="turned", among=path, task="nli", top=5)
    assert {each.word for each in found.before} == {"cat", "horse"}


def test_equal_cosines_keep_the_order_of_the_table():
    table = WordTable(("b", "a", "c"), torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
    assert [each.word for each in nearest(torch.tensor([3.0, 0.0]), table, top=3)] == ["b", "a", "c"]
    assert table.without("a").vectors_WD.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("site", ["word", "embeddings", "layer:1", "layer:2"])
def test_a_word_s_vector_is_the_mean_over_its_pieces_and_places(tiny, site):
    rows = [("zqx cat", None), ("cat", None)]  # zqx is spelled in three pieces
    reading = read(tiny, rows)
    assert reading.words[0] == ["", "zqx", "zqx", "zqx", "cat", ""]
    with torch.no_grad():
        hidden_NTD = hidden_at(tiny, reading, site)
    table = word_table(tiny, rows, site)
    assert table.words == ("zqx", "cat")
    torch.testing.assert_close(table.vectors_WD[0], hidden_NTD[0, 1:4].mean(0))
    torch.testing.assert_close(table.vectors_WD[1], (hidden_NTD[0, 4] + hidden_NTD[1, 1]) / 2)


def test_a_table_of_many_rows_is_that_of_its_parts(tiny):
    rows = [(word, None) for word in ("cat", "dog", "garden") for _ in range(50)]
    torch.testing.assert_close(
        word_table(tiny, rows, "layer:2").vectors_WD, word_table(tiny, rows[::50], "layer:2").vectors_WD
    )


def test_the_vocabulary_s_words_are_whole_and_made_of_letters():
    words = vocabulary_words(tiny_tokenizer())
    assert {"cat", "dog"} <= set(words)
    assert all(word.isalpha() for word in words)


def test_byte_level_words_are_those_with_a_space_before_them():
    pieces = ["<pad>", "<unk>", "Ġ", "c", "a", "t", "Ġc", "Ġca", "Ġcat", "Ġ9"]
    merges = [("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t")]
    inner = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    assert [word.strip() for word in vocabulary_words(tokenizer)] == ["c", "ca", "cat"]
    encoded = tokenizer([" cat act"])
    assert token_words(encoded.encodings[0], (" cat act", None), tokenizer) == ["cat", "act", "act", "act", "act"]


@pytest.mark.parametrize("layer", [1, 2])
def test_rapt_draws_until_the_layer_is_the_one_looked_at(tiny, layer, monkeypatch):
    method, site = method_at("rapt", {"max_layer": 2, "step_size": 0.5}, site=f"layer:{layer}")
    batch = batch_of(tiny.model, read(tiny, [TEXT]).inputs_NT, task=None)
    drawn = []
    draw = type(method).perturbation
    monkeypatch.setattr(type(method), "perturbation", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    found = perturbed(tiny.model, batch, method, site=site, seed=1)
    assert [each.site == site for each in drawn] == [False] * (len(drawn) - 1) + [True]
    assert found.delta_NTD is drawn[-1].delta_NTD
    assert found.delta_NTD.abs().max().item() == pytest.approx(0.5)
    assert found.hidden_NTD.shape == found.delta_NTD.shape
    with torch.no_grad():
        torch.testing.assert_close(found.hidden_NTD, hidden_at(tiny, read(tiny, [TEXT]), site))


@pytest.mark.parametrize(
    ("name", "options", "wanted", "site"),
    [
        ("rapt", {}, None, "layer:2"),
        ("rapt", {"where": "embeddings"}, None, "embeddings"),
        ("smart", {}, None, "embeddings"),
        ("smart", {"preset": "official-2021-02"}, None, "embeddings"),
        ("smart", {}, "layer:1", "layer:1"),
        ("vat", {}, "word", "word"),
    ],
)
def test_a_method_is_looked_at_where_it_perturbs(name, options, wanted, site):
    method, found = method_at(name, options, site=wanted)
    assert found == site
    assert site in method.sites


@pytest.mark.parametrize("preset", ["default", "paper", "official-2020-04", "official-2020-08", "official-2021-02"])
def test_every_preset_of_smart_changes_a_word(tiny, preset):
    found = find_neighbours(tiny, TEXT, word="dog", method="smart", settings=[f"preset={preset}"])
    assert found.relative_size > 0
    assert len(found.before) == len(found.after) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bregman"}, "'bregman' changes no hidden states; one of: .*rapt"),
        ({"method": "rpt"}, "Did you mean 'rapt'"),
        ({"layer": "embeddings"}, "perturbs layer:1, layer:2, layer:3 and not embeddings"),
        ({"layer": "5", "method": "smart"}, "has layers 1 to 2"),
        ({"settings": ["max_layr=2"]}, "Did you mean 'max_layer'"),
        ({"settings": ["max_layer"]}, "expected key=value"),
        ({"settings": ["option=B"], "method": "smart"}, "needs the text's label"),
        ({"word": "dogs", "settings": ["max_layer=2"]}, "unknown word of the text 'dogs'. Did you mean 'dog'"),
        ({"task": "rank", "method": "smart"}, "'rank' has no output for one text .* have one: nli, sts"),
        ({"task": "nil", "settings": ["max_layer=2"]}, "Did you mean 'nli'"),
        ({"top": 0}, "at least 1, got 0"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(tiny, options, message):
    with pytest.raises(ConfigError, match=message):
        find_neighbours(tiny, TEXT, **{"word": "dog", "method": "rapt", **options})


def test_noise_needs_no_output_so_that_it_shows_on_a_ranking_model_too():
    ranking = Predictor(tiny_model([RANK], max_length=32).eval(), tiny_tokenizer())
    assert find_neighbours(ranking, TEXT, word="dog", method="r3f").relative_size > 0
    with pytest.raises(ConfigError, match="have one: none"):
        find_neighbours(ranking, TEXT, word="dog", method="smart")


def test_options_are_yaml_values():
    assert options_from(["max_layer=2", "step_size=1e-3", "preset=paper"]) == {
        "max_layer": 2,
        "step_size": 1e-3,
        "preset": "paper",
    }
