"""The world of the built-in tales: who lives in it, where, with what, and what happens to them.

`tales.py` explains how templates are read. Nearly every noun, name and feeling is a fact of its own, with a cause
where it has one, so that other texts can be drawn from the same world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Table: TypeAlias = "str | Mapping[str, Mapping[str, Table]]"

SHE = {"he": "she", "him": "her", "his": "her", "He": "She", "His": "Her"}
HE = {"he": "he", "him": "him", "his": "his", "He": "He", "His": "His"}
CHILD = {
    "hand": "hand",
    "home": "small house|white cottage|stone house|brick house|wooden cabin|tall house|round tower|windmill",
}
ANIMAL = {
    "kind": "rabbit|mouse|hedgehog|squirrel|fox|badger|bear|beaver|mole|raccoon",
    "hand": "paw",
    "home": "warm burrow|hollow tree|little den|dry cave|cozy hut|round house|deep hole|mossy cottage",
}
CHARACTERS = {
    **dict.fromkeys(("Mia", "Lily", "Rosa", "Nora", "Ella", "Zoe", "Clara", "Ruby"), SHE | CHILD | {"kind": "girl"}),
    **dict.fromkeys(("Tom", "Ben", "Max", "Sam", "Leo", "Finn", "Jack", "Hugo"), HE | CHILD | {"kind": "boy"}),
    **dict.fromkeys(("Clover", "Hazel", "Poppy", "Willow", "Maple", "Daisy", "Fern", "Pearl"), SHE | ANIMAL),
    **dict.fromkeys(("Pip", "Bramble", "Rusty", "Moss", "Barley", "Thistle", "Button", "Pepper"), HE | ANIMAL),
}
FAMILY = dict.fromkeys(("Grandma", "Mother", "Aunt May", "Aunt Rose"), SHE) | dict.fromkeys(
    ("Grandpa", "Father", "Uncle Will", "Uncle Joe"), HE
)

SEASONS = {
    "spring": {
        "weather": "mild|bright|breezy|wet|fresh|soft|rainy|cloudy",
        "falls": "rain",
        "night": "the frogs sang by the water|the air smelled of blossoms|a soft rain fell on the new grass",
    },
    "summer": {
        "weather": "warm|sunny|hot|bright|lovely|golden|clear|dry",
        "falls": "rain",
        "night": "the crickets sang|fireflies danced over the grass|a warm wind moved in the trees",
    },
    "autumn": {
        "weather": "windy|golden|cool|misty|gray|stormy|cloudy|rainy",
        "falls": "rain",
        "night": "yellow leaves drifted past the window|the wind hummed in the trees|an owl called",
    },
    "winter": {
        "weather": "cold|snowy|frosty|white|clear|dark|windy|gray",
        "falls": "snow",
        "night": "snow fell softly on the roof|frost drew flowers on the window|the ice shone in the dark",
    },
}
PLACES = {
    place: {"in": f"{at} the {place}", "spot": spots}
    for at, place, spots in (
        ("in", "garden", "under the rose bush|behind the shed|beside the well|at the gate"),
        ("in", "park", "behind the fountain|beside the pond|under the big tree|by the fence"),
        ("in", "forest", "behind a stone|beside the stream|under a tall pine|in a hollow tree"),
        ("in", "meadow", "beside the stream|behind the wall|next to the beehives|in the grass"),
        ("on", "beach", "behind a stone|under an old boat|beside the water|in the sand"),
        ("on", "hill", "under the old oak|beside the windmill|behind a gray stone|at the wall"),
        ("at", "farm", "behind the barn|under the cart|in the hay|beside the hens"),
        ("at", "market", "behind a barrel|beside the bread stand|under a table|on the church steps"),
    )
}
FOODS = {
    f"a {name}": {"name": name}
    for name in (
        *("honey cake", "plum cake", "carrot cake", "cherry pie", "cheese pie", "pear tart", "nut bun", "sweet roll"),
        *("berry muffin", "pancake", "ginger cookie", "loaf of bread", "rice cake", "lemon tart", "bean pie", "waffle"),
    )
}
PRESENTS = {
    f"a {name}": {"name": name}
    for name in (
        *("bag of nuts", "jar of honey", "silver bell", "pair of boots", "new hat", "paint box", "toy horse"),
        *("book of songs", "bag of apples", "jar of jam", "golden bell", "big drum", "little flute", "toy boat"),
        *("warm blanket", "box of cookies"),
    )
}
PLANTS = {
    "sunflower": {"gift": "the sunflower"},
    "poppy": {"gift": "the first flower"},
    "daisy": {"gift": "a chain of daisies"},
    "strawberry plant": {"gift": "a bowl of strawberries"},
    "bean plant": {"gift": "a dish of beans"},
    "tomato plant": {"gift": "a basket of tomatoes"},
    "pea plant": {"gift": "a bag of sweet peas"},
}
NOISES = {
    "scratching": {"cause": "a branch on the wall", "it": "the branch"},
    "tapping": {"cause": "a loose shutter", "it": "the shutter"},
    "howling": {"cause": "the wind in the chimney", "it": "the chimney"},
    "squeaking": {"cause": "the garden gate", "it": "the gate"},
    "thumping": {"cause": "a dog, wagging its tail", "it": "the dog"},
    "dripping": {"cause": "an old pipe over a pail", "it": "the pail"},
    "rattling": {"cause": "the lid of the milk can", "it": "the milk can"},
}
BABIES = {
    "chick": {"sound": "Peep, peep", "trouble": "had lost its mother", "help": "carried it to its mother"},
    "kitten": {"sound": "Meow, meow", "trouble": "had a thorn in its foot", "help": "pulled the thorn out"},
    "lamb": {"sound": "Baa, baa", "trouble": "had caught its leg in a root", "help": "set the leg free"},
    "bird": {"sound": "Tweet, tweet", "trouble": "had hurt its wing", "help": "tied up the wing"},
    "puppy": {"sound": "Woof, woof", "trouble": "was tangled in a rope", "help": "untied the rope"},
    "duckling": {"sound": "Quack, quack", "trouble": "had lost its way", "help": "took it to the pond"},
}
TROUBLES = {
    "a thick fog hid the path": {"help": "knew every stone and led {him}"},
    "the bridge was broken": {"help": "knew some flat stones in the stream and led {him}"},
    "it grew dark": {"help": "sang, so that {hero} could follow"},
    "{hero} took a wrong turn": {"help": "knew the way and led {him}"},
}
CHORES = {
    f"{do} {what}": {"done": f"{done} {what}"}
    for do, done, what in (
        *(("sweep", "swept", "the yard"), ("wash", "washed", "the windows"), ("mend", "mended", "a fence")),
        *(("clean", "cleaned", "the kitchen"), ("feed", "fed", "the goats"), ("peel", "peeled", "potatoes")),
        *(("chop", "chopped", "wood"), ("fix", "fixed", "the roof")),
    )
}
TASKS = {
    f"{do} the {what}": {"ask": f"{do} my {what}", "did": f"{did} the {what}", "result": f"the {what} {result}"}
    for do, did, what, result in (
        ("feed", "fed", "hens", "were round and happy"),
        ("feed", "fed", "cat", "purred on the mat"),
        ("light", "lit", "lamp", "was shining"),
        ("sweep", "swept", "stairs", "were clean"),
        ("brush", "brushed", "pony", "shone like silk"),
        ("wind", "wound", "clock", "was ticking"),
        ("water", "watered", "lemon tree", "had a new leaf"),
        ("mend", "mended", "fence", "stood straight again"),
    )
}
WISHES = {
    "see the sea": {"way": "They rode over {number} hills, and there was the sea, as wide as the sky."},
    "fly like a bird": {"way": "A swing hung in the tallest tree, and {hero} flew up, up, up into the air."},
    "touch a cloud": {"way": "They climbed the hill, and a cloud came down and kissed {him} on the nose."},
    "have a friend next door": {"way": "In the house next door stood {friend}, a {friend.kind}, and waved."},
    "sleep in a tent": {"way": "By the stove stood a {hue} tent, and they slept in it for {number} nights."},
    "ride a pony": {"way": "At the gate stood a {fur} pony, and {hero} rode it around the field."},
    "be as tall as a tree": {"way": "{giver} lifted {him} up high, and they were as tall as the roof."},
    "sail on a ship": {"way": "A {hue} ship was waiting, and they sailed to the island and back."},
}
LOADS = {
    "cart": {"stuck": "was stuck in the mud", "went": "rolled back onto the road"},
    "boat": {"stuck": "lay deep in the sand", "went": "slid into the water"},
    "wheelbarrow": {"stuck": "stood in a deep hole", "went": "rolled out of the hole"},
    "barrel": {"stuck": "blocked the barn door", "went": "rolled out of the way"},
    "piano": {"stuck": "was stuck in the doorway", "went": "rolled into the room"},
    "wardrobe": {"stuck": "was stuck on the stairs", "went": "slid up to the last step"},
    "wagon": {"stuck": "lay in a ditch", "went": "stood on its wheels again"},
}
DEEDS = {
    "baked {food} with {giver}": {"memory": "the smell of the {food.name}"},
    "found a {fur} feather": {"memory": "the {fur} feather"},
    "walked to the {place} with {friend}": {"memory": "the walk with {friend}"},
    "learned to whistle a song": {"memory": "the new song"},
    "saw a {creature} by the pond": {"memory": "the {creature} by the pond"},
    "fed {number} ducks": {"memory": "the {number} ducks"},
    "wrote a letter to {other}": {"memory": "the letter to {other}"},
    "heard a {bird} in the garden": {"memory": "the song of the {bird}"},
    "watched the ships on the river": {"memory": "the ships on the river"},
    "rode on the donkey": {"memory": "the ride on the donkey"},
    "drew a {hue} dragon": {"memory": "the {hue} dragon"},
}
FEELINGS = {
    "relief": "glad|happy|very happy|light as a feather|warm and happy|so glad that {he} could dance",
    "joy": "happy|very happy|happier than ever before|full of joy|merry|so happy that {he} had to sing",
    "pride": "proud|very proud|proud and happy|a little taller|as proud as a king|strong",
    "thanks": "thankful|grateful|warm inside|very thankful|safe and thankful",
    "courage": "brave|strong|very brave|brave and strong|as brave as a lion",
    "calm": "calm|safe|warm|safe and warm|peaceful|calm and happy",
    "grief": "sad|very sad|miserable|so sad that {he} could cry|heavy and sad",
    "guilt": "guilty|ashamed|terrible|sick with worry|very bad",
    "dread": "afraid|scared|very small|frightened|cold with fear",
    "longing": "a little sad|lonely|small and far away|full of longing",
    "loneliness": "lonely|sad and lonely|forgotten|left out|very lonely",
    "shyness": "shy|small|sad|lost|hot in the face",
    "doubt": "impatient|cross|disappointed|tired of waiting",
}

OPENINGS = (
    """
[Once upon a time|Once|Long ago|Many years ago|Some time ago], a {trait} {little} {hero.kind} [named|called] {hero}
lived in a {hero.home} {near}. {He} [always wore|was proud of|never took off|loved] {his} {color} {wear}.
""",
    """
[Far away|Not far from here|Beyond the mountains|Over the sea], in a {hero.home} {near}, lived {hero}, a {trait}
{little} {hero.kind} in a {color} {wear}.
""",
    """
{hero} was a {trait} {little} {hero.kind} in a {color} {wear} and lived with {giver} in a {hero.home} {near}.
""",
    """
There [was once|once was|once lived] a {trait} {little} {hero.kind} in a {color} {wear}. {His} name was {hero}, and
{he} lived in a {hero.home} {near}.
""",
)

LOST = """
{giver} [made|bought|gave] {him} a {look} {hue} {toy} with {trim}. {When} {he} [carried|took] it past {sight},
{sight2} and {sight3} to the {place} and [left|forgot|lost] it {place.spot}.

[That evening|That night|At supper|At home] {he} felt {grief}. "[My {toy} is gone|My {toy} is lost|I lost my {toy}|I
want my {toy}]!" {he} {cried}. "[Think back|Do not cry|Let us look|We will find it]," {replied} [{giver}|{his} friend
{friend}]. [They {walked} back past {sight3}, {sight2} and {sight}|They looked by {sight}, by {sight2} and by
{sight3}]. [There it lay|There it was|Then they saw it], {place.spot}, the {hue} {toy} with {trim}!

[{hero} felt {relief}, because the [gift|present] from {giver} was [safe|found]|Because {his} {toy} was [safe|found],
{hero} felt {relief}].{Closing}
"""

BROKEN = """
{giver} had a {look} {hue} {breakable} with {trim}. {When} {hero} was {romping} in the {chamber}, and
[crash|bump|clang|bang]! The {breakable} [lay in|broke into] {number} pieces. {hero} [hid them|quickly hid them|put
them] {hideout} and felt {guilt}.

At supper {he} [did not touch|could not eat|only looked at] {his} {food.name}. "[What is wrong|Why are you so
still|Are you ill|Are you not hungry]?" asked {giver}. "I broke your {breakable}, and [it is|I hid it] {hideout}, in
{number} pieces," {he} {whispered}.

"[Thank you for telling me|The truth is worth more than a {breakable}|I am glad that you told me|We can mend it],"
{replied} {giver} and took {his} {hero.hand}. [{hero} felt {relief}, because {he} had told the truth|Because {he} had
told the truth, {hero} felt {relief}].{Closing}
"""

FEAR = """
[One|On a] {season.weather} {season} night, {hero} heard a {strange} {noise} [at the door|under the window|in the
yard|behind the wall]. {He} pulled {his} {hue} blanket over {his} [ears|nose|eyes|head] and felt {dread}. "[I
hear|There is|It must be|I think it is] a {huge} {monster}!" {he} {whispered}.

{giver} lit a lantern, and {hero.hand} in {hero.hand} they {crept} past {item}, {item2} and {item3} [to the door|to
the window]. [There was no|They saw no|It was no] {huge} {monster}. It was only {noise.cause}!

[{hero} [laughed out loud|began to laugh] and felt {courage}, because {he} had dared to look|Because {he} had dared to
look, {hero} felt {courage}].[{Closing}| When {he} heard the {noise} again, {he} thought of {noise.it} and
[smiled|yawned|slept on|sang].]
"""

WISH = """
Every [night|evening] {hero} [waved|sang|bowed|blew a kiss] to the {star} and {whispered}, "I wish I could {wish}."
But the {star} [only shone|said nothing|hid in the clouds], and {he} felt {longing}.

{When} {giver} {smiled}. "[Put on|Here is|Take|Bring] your {color} {wear}," {giver.he} said. "[I have something to
show you|The time has come|Today is a special day|Come with me]." {wish.way} "[A little {bird}|The {star}] told me,"
{giver} {whispered}.

[{hero} felt {joy}, because {his} wish to {wish} had come true|Because {his} wish had come true, {hero} felt
{joy}].{Closing}
"""

PROMISE = """
{When} {his} [friend|neighbor] {friend}, a {trait2} {friend.kind}, had to go to {town} until {day}. "[Will|Can|Could]
you {task.ask}?" {friend.he} asked. "[I promise|Yes, I promise|I will, I promise]," {replied} {hero}.

Soon {other} [came running|knocked|called over the fence]. "[Come and|Let us] {game}!" {other.he} {cried}. {hero}
[loved|wanted|longed] to {game}, but first {he} {task.did}, {gladly} and {gladly2}.

[On {day}|At last|In the evening] {friend} came home, and {task.result}. {friend.He} [gave|brought] {hero} {present}
from {town}. [{hero} felt {pride}, because {he} had kept {his} promise|Because {he} had kept {his} promise, {hero}
felt {pride}].{Closing}
"""

RESCUE = """
{When} {hero} heard a {soft} sound {place.in}. "{baby.sound}!" [There, {place.spot}, sat|It came from] a {fur} {baby}
that {baby.trouble}. {hero} warmed the {baby} with {his} {color} {wear} and {baby.help}.

[Two|Three|Four|Five|Six|Seven] [days|weeks] later {he} walked home from {town} with {food}, but {trouble}, and {he}
felt {dread}. [Then|Suddenly], "{baby.sound}!" It was the {fur} {baby}! It led {him} past {sight}, {sight2} and
{sight3} to the {hero.home}.

{hero} gave it half of {his} {food.name} and felt {thanks}, because the {baby} had not forgotten {him}.{Closing}
"""

SHARE = """
{When} {hero} {walked} to the {place} with {food} in {his} {hue} [bag|basket]. [{He} met|There stood|By the road
stood] a {poor} {creature}. "I have not eaten since {day}," it {sighed}. {hero} was hungry too, but {he}
[gave|offered] the {creature} half of {his} {food.name}.

On the way [home|back] {trouble}, and {he} felt {dread}. "[Help!|Hello!|Help me!|Who can help me?]" {he} {cried}. "[I
am here|I am coming|Here I come|Wait for me]," {cried} the {creature}. It {trouble.help} [past|to] {sight}, [past|to]
{sight2} and home.

[{hero} felt {thanks}, because half of {food} had [made|brought|given] {him} a whole friend|Because the {creature} had
not forgotten {him}, {hero} felt {thanks}].{Closing}
"""

TOGETHER = """
{When} a {look} {hue} {load} {load.stuck}. "[It is too heavy for me|I will never move it|It will not move|I am too old
for this]," {sighed} {giver}. {hero} pushed [with all {his} might|until {his} face was red|and counted to {number}],
but the {load} did not move.

Then came {friend}, a {trait2} {friend.kind}, and a {poor} {creature}. "I am [only small|not strong|old and slow|not
big]," {sighed} the {creature}, "but I [can|will] help." {hero}, {friend} and the {creature} pushed, and the {hue}
{load} {load.went}!

{giver} gave {food} to {hero}, {food2} to {friend} and {food3} to the {creature}. [{hero} felt {pride}, because they
had done it together|Because they had done it together, {hero} felt {pride}].{Closing}
"""

BIRTHDAY = """
It was {his} birthday, a {season.weather} {season} day, but {his} friend {friend} had to {chore}, and {his} friend
{other} had to {chore2}. {hero} [sat|stood|was] alone {place.in}, {place.spot}, and felt {loneliness}.

[In the evening|At supper time|When it grew dark] {he} {walked} home to the {hero.home}. "Surprise!" {cried} {giver}.
{friend} had not {chore.done}: {friend.he} had baked {food} with {number} candles. {other} had not {chore2.done}:
{other.he} had [painted|made] {him} a {look} {hue} {toy}.

[{hero} felt {joy}, because nobody had forgotten {his} birthday|Because nobody had forgotten {him}, {hero} felt
{joy}].{Closing}
"""

NEWCOMER = """
{When} a {trait2} {friend.kind} named {friend} came to school from {town}. {friend.He} [sat|stood] alone {corner} with
{food}. "[Do you want to|Will you|Would you like to] {sport} with {other} and me?" asked {hero}.

"[I do not know how|I never learned it|I cannot do it]," {friend.he} {whispered}, and felt {shyness}. "[That is
easy|Nobody knows at first|We will show you|Just try]," {replied} {other}. So {friend} learned to {sport}, and
{friend.he} showed {hero} and {other} how to {skill}.

[By {day}|Soon|Before long], {hero} could {skill}, {friend} could {sport}, and nobody was alone {corner}. {hero} felt
{joy}, because [a stranger from {town}|the {friend.kind} from {town}] was now {his} friend.
"""

SEED = """
{When} {giver} gave {hero} a {seed} seed from {town}. {He} put it in a {look} {hue} pot [by the window|on the shelf|on
the table]. [After {number} days|By {day}] nothing had grown, and {he} felt {doubt}. "[Wait|Be patient|Give it
time|Seeds are slow]," said {giver}.

{Soon} there were {number2} leaves in the {hue} pot, and then a {strong} {plant}. So when {friend}, a {trait2}
{friend.kind}, [fell|was] ill, {hero} {walked} over and brought {friend.him} {plant.gift}. {friend} [smiled|sat
up|laughed|sang] [for the first time since {day}|and said thank you {number} times].

[{hero} felt {pride}, because {he} had been patient|Because {he} had been patient, {hero} felt {pride}].{Closing}
"""

SLEEP = """
It was a {season.weather} {season} night, and {hero} could not sleep. In the morning {he} {deed}, at noon {he}
{deed2}, and before supper {he} {deed3}. Now {his} [head|mind] was [too full|full to the top|humming|wide awake].

"Tell me three good things," said {giver} and sat down on the [bed|{look} chair|{hue} blanket]. "[First|There was]
{deed.memory}," {he} {whispered}. "[Then|And] {deed2.memory}." {He} [yawned|closed {his} eyes|smiled]. "And
{deed3.memory}."

{giver} [blew out the candle|kissed {him}|sang a song|pulled up the blanket]. {hero} felt {calm}, because it had been
a good day, and {he} dreamed of [{deed.memory}|{deed2.memory}|{deed3.memory}].
"""

BASKET = """
{When} {giver} packed {food}, {food2} and {food3} for {kin} in {town}. By {sight} {hero} met a {poor} {creature} and
gave it the {food.name}. By {sight2} {he} met a {poor2} {creature2} and gave it the {food2.name}.

[So|Now] {he} had only the {food3.name} for {kin} and felt {guilt}. But {kin} {smiled}. "[You have a good heart|You
did the right thing|I am proud of you|I am glad]," {kin.he} said. Then the {poor} {creature} came with {number}
[flowers|apples|nuts|eggs], and the {poor2} {creature2} came with {present}.

They all shared the {food3.name}. [{hero} felt {joy}, because {he} had two new friends|Because {he} had two new
friends, {hero} felt {joy}].{Closing}
"""

PICNIC = """
{When} {hero} and {his} friend {friend}, a {trait2} {friend.kind}, {walked} to the {place} with {food}, {food2} and
{food3}. They sat {place.spot}. A {poor} {creature} ate the {food.name}, a {poor2} {creature2} ate the {food2.name},
and the {season.falls} fell on the {food3.name}.

"[Let us dance|Let us eat {season.falls}|Even the {season.falls} is hungry]!" {cried} {friend}, and they laughed [and
laughed|until supper|all the way home]. [{hero} felt {joy}, because {he} had such a good friend|Because {he} had such
a good friend, {hero} felt {joy}].{Closing}
"""

RACE = """
{When} {hero}, {friend} and {other} ran a race from {sight} past {sight2} to {sight3}. At {sight2} {hero} heard a
{soft} cry. A {poor} {creature} [was stuck|lay] in [the mud|a ditch|a hole], and {he} [stopped to help it|pulled it
out]. So {friend} came first, {other} came second and {hero} came last.

"[You are the best of us|You won something better|This is for you]," {friend} {whispered}, and gave {him} the prize,
{present}. [{hero} felt {pride}, because {he} had helped the {creature}|Because {he} had helped the {creature}, {hero}
felt {pride}].{Closing}
"""

TRADE = """
{When} {hero} [carried|took] a {look} {hue} {toy} to the market in {town}. {friend}, a {friend.kind}, gave {him}
{food} for the {toy}. {other}, a {other.kind}, gave {him} {present} for the {food.name}.

[At home|Before supper|On {day}] {hero} gave the {present.name} to {giver}. "[I always wanted one|How lovely|It is
just what I need]!" {cried} {giver}. The {hue} {toy} was gone, but {hero} felt {joy}, because {giver} was
happy.{Closing}
"""

LETTER = """
On {day} a [letter|card] came for {hero} from {friend}, a {trait2} {friend.kind} in {town}. "I have {food} with
{number} candles," it said. "[Please bring|Bring|You must bring] {other} and {present}."

So {hero} and {other} {walked} to {town}, past {sight}, {sight2} and {sight3}, with {present}. They blew out the
{number} candles and ate the {food.name}. [{hero} felt {joy}, because {friend} had not forgotten {him}|Because
{friend} had not forgotten {him}, {hero} felt {joy}].{Closing}
"""

CLOSING = """
[| That night, {season.night}.| That night {he} dreamed of {dream}.| A {bird} sang {perch}.| The {trait} {hero.kind}
in the {color} {wear} [smiled|hummed a tune|sang a song|danced for joy].]
"""

PLOTS = (
    *(LOST, BROKEN, FEAR, WISH, PROMISE, RESCUE, SHARE, TOGETHER, BIRTHDAY),
    *(NEWCOMER, SEED, SLEEP, BASKET, PICNIC, RACE, TRADE, LETTER),
)

WORLD: dict[str, Table] = {
    "tale": "{opening}\n\n{plot}",
    "opening": {opening: {} for opening in OPENINGS},
    "plot": {plot: {} for plot in PLOTS},
    # Who there is.
    "hero friend other": CHARACTERS,
    **{"he": "{hero.he}", "him": "{hero.him}", "his": "{hero.his}", "He": "{hero.He}", "His": "{hero.His}"},
    "giver kin": FAMILY,
    "creature creature2": "crow|frog|goose|goat|donkey|turtle|deer|hen|pony|toad|duck|dove|snail|sheep|heron|cow",
    "baby": BABIES,
    "bird": "robin|sparrow|wren|magpie|blackbird|swallow|lark|finch",
    "monster": "monster|ghost|giant|dragon|troll|wolf|witch|bear",
    # When and where.
    "season": SEASONS,
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "place": PLACES,
    "near": "by the river|by the sea|near the forest|at the foot of a hill|beside a quiet lake|on a small island|"
    "next to an orchard|under three tall pines|by the old bridge|at the end of the road|between two hills|near a farm",
    "town": "Oakford|Millbrook|Ashby|Greenhill|Stonebridge|Redwood|Westport|Riverton",
    "sight sight2 sight3": "the mill|the pond|the old bridge|the church|the bakery|the inn|the well|the orchard|"
    "the school|the smithy|the tall gate|the beehives|the fountain|the tower|the green door|the hollow oak",
    "corner": "by the fence|under the big tree|beside the steps|next to the pump|behind the door|at the gate|"
    "by the window|at the wall",
    "perch": "on the fence|in the hedge|on the roof|in the pear tree|on a post|above the road|by the well|"
    "on the windmill",
    "chamber": "kitchen|hall|parlor|attic",
    "hideout": "under the bed|behind the stove|in the big chest|on the top shelf|under the stairs|behind the curtain",
    "item item2 item3": "the stove|the clock|the big chair|the table|the mirror|the cupboard|the piano|the basket|"
    "the cat|the broom",
    # With what.
    "food food2 food3": FOODS,
    "present": PRESENTS,
    "toy": "kite|drum|ball|boat|lantern|whistle|wagon|basket|blanket|book|top|flute|bell|puppet|doll|box",
    "breakable": "cup|bowl|jug|vase|plate|teapot|lamp|pot",
    "trim": "tiny stars|tiny hearts|tiny dots|a painted bird|a painted moon|painted flowers|a shiny edge|thin stripes",
    "wear": "scarf|coat|shawl|cape|jacket|sweater|vest|apron",
    "load": LOADS,
    "plant": PLANTS,
    "star": "evening star|first star|round moon|bright moon",
    "dream": "the sea|a golden ship|a field of clover|a dancing bear|a warm oven|the moon|a flying horse|a castle|"
    "a silver bell|a big drum|a red ship|a kind giant|a singing fox|a sky of stars|a house of bread|a white pony",
    # What is done and what happens.
    "task": TASKS,
    "chore chore2": CHORES,
    "deed deed2 deed3": DEEDS,
    "wish": WISHES,
    "noise": NOISES,
    "trouble": TROUBLES,
    "romping": "dancing|playing ball|chasing a fly|spinning|hopping|marching|singing|skating",
    "game": "climb the hill|play hide and seek|build a hut|bake cookies|race to the bridge|dance in the barn|"
    "fly a kite|play marbles|jump rope|sing songs|build a boat|run to the pond",
    "sport": "jump rope|play marbles|fly a kite|play checkers|spin a top|throw horseshoes|play the flute|build a boat",
    "skill": "whistle like a bird|juggle apples|tell riddles|stand on one leg|draw dragons|do a handstand|bake bread|"
    "sing",
    # How it is.
    "trait trait2": "kind|shy|cheerful|curious|quiet|clever|gentle|dreamy|busy|polite|funny|lively|merry|friendly|"
    "hopeful|thoughtful",
    "color hue": "red|blue|green|yellow|white|purple|pink|brown|gray|black|golden|silver",
    "fur": "black|white|brown|gray|spotted",
    "look": "little|big|new|pretty|fine|lovely|shiny|round|small|bright",
    "poor poor2": "thin|gray|tired|lonely|muddy|lame|sad|wet|hungry|sleepy",
    "number number2": "two|three|four|five|six|seven|eight|nine",
    "huge": "big|hungry|hairy|wild|green|terrible|grumpy|huge",
    "strange": "soft|loud|strange|slow|long|sharp",
    "soft": "soft|small|thin|sad|sweet|weak",
    "seed": "tiny|round|flat|striped|smooth|black|big|shiny",
    "strong": "tall|fine|strong|green|lovely|proud",
    "gladly gladly2": "gladly|slowly|quickly|carefully|happily|quietly|neatly|well",
    **FEELINGS,
    # A single option that holds a wording: chosen anew wherever it is written.
    "When": "[One|On a] {season.weather} {season} [morning|afternoon|day],",
    "Closing": CLOSING,
    "Soon": "[Soon|At last|One morning|After a while]",
    "little": "[little|small|young]",
    "replied": "[said|answered|replied]",
    "sighed": "[sighed|said|groaned|muttered]",
    "cried": "[cried|called|shouted|sang out]",
    "whispered": "[whispered|said softly|said|murmured]",
    "smiled": "[smiled|laughed|nodded|winked]",
    "walked": "[walked|ran|hurried|skipped|went|marched]",
    "crept": "[crept|tiptoed|walked|went]",
}
