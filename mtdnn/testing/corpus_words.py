"""The words of the generated corpus: two domains that share their logic and hardly a content word."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Domain:
    """A vocabulary.

    :param kinds: general noun -> special nouns, each of which is one of the general ones.
    :param doings: groups of doings that exclude each other within a group: (singular, plural) of the verb phrase.
    :param places: groups of places that exclude each other within a group.
    :param contained: place -> a larger place that contains it.
    :param deeds: (active, passive) of a two-sided deed; who did it matters.
    :param qualities: adjectives that can be dropped.
    :param frames: openings that change nothing.
    """

    kinds: dict[str, tuple[str, ...]]
    doings: tuple[tuple[tuple[str, str], ...], ...]
    places: tuple[tuple[str, ...], ...]
    contained: dict[str, str]
    deeds: tuple[tuple[str, str], ...]
    qualities: tuple[str, ...]
    frames: tuple[str, ...]


EVERYDAY = Domain(
    kinds={
        "animal": ("dog", "cat", "horse", "rabbit", "parrot", "goat", "hamster", "donkey"),
        "child": ("boy", "girl", "toddler", "schoolboy"),
        "worker": ("nurse", "baker", "driver", "waiter", "plumber", "cook", "farmer", "tailor"),
        "musician": ("singer", "drummer", "violinist", "pianist", "guitarist"),
        "player": ("goalkeeper", "runner", "swimmer", "boxer", "skater"),
        "relative": ("uncle", "grandmother", "cousin", "aunt", "nephew"),
    },
    doings=(
        (
            ("is sleeping", "are sleeping"),
            ("is jumping", "are jumping"),
            ("is eating an apple", "are eating an apple"),
            ("is drinking water", "are drinking water"),
        ),
        (("is sitting down", "are sitting down"), ("is running around", "are running around")),
        (("is resting quietly", "are resting quietly"), ("is playing with a ball", "are playing with a ball")),
        (("is waiting alone", "are waiting alone"), ("is dancing with a friend", "are dancing with a friend")),
        (("is carrying a basket", "are carrying a basket"), ("is lying on a blanket", "are lying on a blanket")),
    ),
    places=(
        ("in the kitchen", "in the garden", "in the garage", "in the bedroom"),
        ("at the market", "at the beach", "at the station", "at the stadium"),
        ("under the bridge", "on the roof", "behind the barn"),
    ),
    contained={
        "in the kitchen": "in the house",
        "in the bedroom": "in the house",
        "at the market": "in the town",
        "at the station": "in the town",
        "behind the barn": "on the farm",
    },
    deeds=(
        ("is helping", "is being helped by"),
        ("is following", "is being followed by"),
        ("is greeting", "is being greeted by"),
        ("is watching", "is being watched by"),
        ("is chasing", "is being chased by"),
    ),
    qualities=("young", "tall", "tired", "happy", "hungry", "old", "quiet", "friendly"),
    frames=("", "This morning, ", "After lunch, ", "On Sunday, ", "Right now, "),
)

SCIENCE = Domain(
    kinds={
        "metal": ("copper alloy", "iron rod", "silver wire", "nickel plate", "zinc sheet"),
        "organism": ("bacterium", "fungus", "alga", "worm", "moss"),
        "planet": ("gas giant", "ice giant", "rocky planet", "dwarf planet"),
        "cell": ("neuron", "muscle fiber", "blood cell", "pollen grain"),
        "rock": ("granite sample", "basalt sample", "marble sample", "sandstone sample"),
        "liquid": ("salt solution", "acid mixture", "oil sample", "alcohol solution"),
    },
    doings=(
        (
            ("absorbs thermal energy", "absorb thermal energy"),
            ("releases thermal energy", "release thermal energy"),
            ("maintains a constant temperature", "maintain a constant temperature"),
        ),
        (("expands in volume", "expand in volume"), ("shrinks in volume", "shrink in volume")),
        (("gains electric charge", "gain electric charge"), ("loses electric charge", "lose electric charge")),
        (("increases in density", "increase in density"), ("decreases in density", "decrease in density")),
        (("accelerates steadily", "accelerate steadily"), ("remains motionless", "remain motionless")),
    ),
    places=(
        ("inside the reactor core", "inside the vacuum chamber", "inside the cooling tank"),
        ("within the upper atmosphere", "within the deep ocean", "within the volcanic crust"),
        ("near the magnetic pole", "near the equator"),
    ),
    contained={
        "inside the reactor core": "inside the power plant",
        "inside the vacuum chamber": "inside the laboratory",
        "inside the cooling tank": "inside the laboratory",
        "within the volcanic crust": "within the planetary surface",
    },
    deeds=(
        ("heats", "is heated by"),
        ("attracts", "is attracted by"),
        ("surrounds", "is surrounded by"),
        ("dissolves", "is dissolved by"),
        ("displaces", "is displaced by"),
    ),
    qualities=("dense", "unstable", "magnetic", "transparent", "frozen", "radioactive", "porous", "microscopic"),
    frames=(
        "Repeated measurements have shown that ",
        "According to the latest experiment, ",
        "Researchers observed under controlled conditions that ",
        "The published data confirm that ",
    ),
)

NUMBERS = ("two", "three", "four", "five", "six", "seven")

# Acceptability: subjects with number and reflexive, verbs that can take a reflexive, objects.
SUBJECTS = (
    ("The boy", "singular", "himself"),
    ("The girl", "singular", "herself"),
    ("My uncle", "singular", "himself"),
    ("The queen", "singular", "herself"),
    ("The children", "plural", "themselves"),
    ("Two farmers", "plural", "themselves"),
    ("Our neighbours", "plural", "themselves"),
    ("The singers", "plural", "themselves"),
)
REFLEXIVE_VERBS = ("saw", "hurt", "taught", "painted", "washed", "admired")
FEELINGS = ("happy", "late", "tired", "angry", "ready", "hungry", "quiet", "famous")
THINGS = (("book", "books"), ("letter", "letters"), ("cake", "cakes"), ("picture", "pictures"), ("chair", "chairs"))
TRANSITIVE = ("bought", "found", "carried", "lost", "sold", "kept")
SETTINGS = (
    "in the garden",
    "before dinner",
    "after the show",
    "near the river",
    "at the party",
    "on Monday",
    "at school",
)

# Ranking: people, what they did (question form, past form), to what, where, when.
PEOPLE = ("Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Leo")
ACTS = (
    ("buy", "bought"),
    ("paint", "painted"),
    ("repair", "repaired"),
    ("sell", "sold"),
    ("find", "found"),
    ("clean", "cleaned"),
)
OBJECTS = (
    "the bicycle",
    "the piano",
    "the old clock",
    "the boat",
    "the lamp",
    "the red car",
    "the camera",
    "the table",
)
WHERE = ("in Paris", "in the village", "at the harbour", "in the workshop", "near the church", "in Madrid")
WHEN = ("on Friday", "in March", "last summer", "at noon", "in 1998", "before Christmas")

# Similarity: each entry holds ways of saying the same.
WHO = (
    ("a man", "a guy"),
    ("a woman", "a lady"),
    ("a kid", "a child"),
    ("a dog", "a hound"),
    ("a doctor", "a physician"),
    ("a policeman", "a police officer"),
    ("a teacher", "an instructor"),
    ("a soldier", "a trooper"),
)
WHAT = (
    ("is fixing a bike", "is repairing a bicycle"),
    ("is cooking a meal", "is preparing food"),
    ("is watching a movie", "is viewing a film"),
    ("is starting a car", "is turning on an automobile"),
    ("is shouting loudly", "is yelling at the top of its voice"),
    ("is looking at a picture", "is gazing at an image"),
    ("is jogging slowly", "is running at an easy pace"),
    ("is buying a sofa", "is purchasing a couch"),
)
PLACE = (
    ("on the street", "on the road"),
    ("in the woods", "in the forest"),
    ("by the sea", "near the ocean"),
    ("in a shop", "in a store"),
    ("at home", "in the house"),
    ("in the city", "in town"),
)
TIME = (("in the evening", "at dusk"), ("at midday", "at noon"), ("at night", "after dark"), ("at dawn", "at sunrise"))
