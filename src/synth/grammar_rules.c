/* grammar_rules.c - what the stories are made of. The words and sentences are this project's own.
 *
 * A rule whose word is remembered has the plural as its name: {put pet pets}, later {pet}.
 */
#include "grammar_impl.h"

enum { ALIKE = false, FALLING = true };

const esp_rule esp_rules[] = {
    /* ---- the plan of a story ---- */
    { "story", ALIKE, "{opening} {friendship} {finding} {tail}\n{quiz}" },
    { "tail", FALLING,
      "Then {event} {tail}|"
      "Soon {event} {tail}|"
      "In the end {closing}|"
      "After that {event} {tail}|"
      "The next {daytime} {event} {tail}|"
      "At last {closing}" },

    { "opening", FALLING,
      "Once there was {person}. {He} lived in a {size} {house} {near}.|"
      "In a {size} {house} {near} lived {person}.|"
      "Long ago {person} came to a {size} {house} {near}.|"
      "This is the story of {person} who lived {near}." },
    { "person", ALIKE,
      "a {character} girl named {put hero girls}{let he she}{let He She}{let his her}{let him her}|"
      "a {character} boy named {put hero boys}{let he he}{let He He}{let his his}{let him him}" },
    { "friendship", FALLING,
      "{hero} had a {looks} {put animal animals} called {new friend pets}.|"
      "{hero} played with {new friend girls} the {looks} {put animal animals}.|"
      "{hero} shared {food} with a {looks} {put animal animals} called {new friend pets}.|"
      "{hero} often talked to {new friend boys} the {looks} {put animal animals}." },
    { "finding", ALIKE,
      "One {weather} {daytime} {he} found a {put color colors} {put thing things} "
      "{put site sites}.|"
      "On {day} {his} {family} put a {put color colors} {put thing things} {put site sites}.|"
      "At {hour} a {put color colors} {put thing things} lay {put site sites}." },

    /* ---- what happens ---- */
    { "event", FALLING,
      "{hero} went to the {put place places} with {friend}. It was {weather}, and they {played} "
      "{until}.|"
      "{hero} picked {put n few} {put item items}s {sites}. {He} gave {less k n} to {friend} "
      "and kept {rest m n k}.|"
      "{hero} said {manner}, \"I want to {wish}.\" {friend} {answered}.|"
      "{hero} counted {put a few} {bird}s {sites} and {put b few} more {near}, {sum c a b} in all.|"
      "{hero} felt {moods} because {reason}.|"
      "{hero} hid the {thing} {put site sites}. {friend} looked {manner} and {result}.|"
      "{hero} met a {looks} {stranger} {near}. \"{greeting},\" said the {looks} {stranger}. "
      "\"I have lost my {colors} {gear}.\"|"
      "{hero} bought {put n few} {put item items}s at the {shop}. The {seller} gave {him} "
      "{put k few} more, so {he} had {sum m n k}.|"
      "{hero} painted the {thing} {new color colors}, and it looked {opinion}.|"
      "{hero} lent the {thing} to {new owner girls}, who {used} it {until}.|"
      "{hero} learned that {put a few} plus {put b few} is {sum c a b}. \"{praise}!\" said {his} "
      "{family}.|"
      "{hero} baked a {taste} {cake} for {his} {family}. {friend} ate {put k few} pieces and slept "
      "{sites}.|"
      "{hero} climbed a {size} {high} and saw the {put place places}. The {sky} {shone} {manner}.|"
      "{hero} lost {his} {colors} {gear} {sites} and walked home {manner}.|"
      "{hero} told {friend} about a {looks} {stranger}, a {taste} {cake} and a {size} {treasure}.|"
      "{hero} helped a {looks} {seller} to carry a {size} {load} to the {put place places}.|"
      "{hero} dreamed of a {size} {treasure} {near}, where {few} {bird}s {played} {manner}.|"
      "{hero} wrote a {size} letter to {his} {family} and drew a {colors} {bird} on it." },
    { "closing", FALLING,
      "{hero} and {friend} came home {manner}. They were {put mood moods} and {new also moods}.|"
      "{hero} put the {thing} {put site sites} and said {parting} to {friend}.|"
      "{hero} sat {near} with {friend}. The {sky} {shone} {manner}." },

    /* ---- the question, of what the story has told ---- */
    { "quiz", ALIKE,
      "Question: Who was the {animal}? Answer: {friend}.|"
      "Question: What color was the {thing}? Answer: {color}.|"
      "Question: Where was the {thing}? Answer: {site}.|"
      "[m]Question: How many {item}s did {hero} have? Answer: {m}.|"
      "[c]Question: What is {a} plus {b}? Answer: {c}.|"
      "[owner]Question: Who had the {thing}? Answer: {owner}.|"
      "[place]Question: Which place did {hero} know? Answer: the {place}." },

    /* ---- people and animals ---- */
    { "girls", FALLING,
      "Mia|Nora|Ella|Lena|Rosa|Ida|Clara|Tilda|Vera|Hanna|Paula|Greta|Sofie|Wanda|Judith|Frida|"
      "Emma|Dora" },
    { "boys", FALLING,
      "Tom|Ben|Emil|Oskar|Pavel|Jonas|Felix|Anton|Karl|Hugo|Leo|Max|Simon|Viktor|Rudi|Noah|Georg|"
      "Ivan" },
    { "pets", FALLING,
      "Pip|Moss|Button|Fern|Biscuit|Pebble|Nutmeg|Comet|Clover|Tinker|Mallow|Rusty|Velvet|"
      "Snowball" },
    { "animals", FALLING,
      "dog|cat|rabbit|hedgehog|fox|goat|duck|mouse|squirrel|pony|crow|badger|turtle|lamb|hen|"
      "beaver|"
      "otter|snail" },
    { "character", FALLING,
      "little|clever|brave|quiet|merry|shy|curious|patient|lively|gentle|stubborn|dreamy|careful|"
      "friendly|silent|bold" },
    { "looks", FALLING,
      "small|fluffy|tired|spotted|funny|hungry|round|muddy|lame|proud|thin|noisy|wise|lazy|strange|"
      "clumsy|polite|grumpy" },
    { "family", FALLING,
      "mother|father|grandmother|uncle|sister|brother|cousin|neighbor|teacher|godfather" },
    { "stranger", FALLING,
      "man|woman|sailor|giant|knight|fiddler|wizard|pedlar|queen|shepherd|hunter|thief" },
    { "seller", FALLING,
      "baker|farmer|miller|fisherman|gardener|cobbler|tailor|smith|painter|carpenter" },
    { "bird", FALLING, "swallow|robin|pigeon|heron|starling|lark|magpie|wren|owl|gull" },

    /* ---- things ---- */
    { "things", FALLING,
      "ball|kite|lantern|whistle|drum|wooden boat|key|basket|hat|scarf|mirror|bell|toy horse|spoon|"
      "feather|clock|violin|blanket|compass|puppet" },
    { "colors", FALLING,
      "red|blue|green|yellow|white|black|silver|brown|golden|purple|pink|gray|scarlet|violet" },
    { "items", FALLING,
      "apple|pear|shell|plum|nut|flower|button|candle|stone|carrot|coin|egg|lemon|turnip|mushroom|"
      "bean" },
    { "gear", FALLING,
      "shoe|coat|bag|glove|stick|umbrella|map|cup|ring|book|belt|purse|hammer|pencil" },
    { "load", FALLING, "sack|barrel|box|chest|bundle|ladder|table|bathtub|wheel|carpet" },
    { "treasure", FALLING,
      "castle|pearl|crown|dragon|island|ship|garden|diamond|whale|palace|cave|tent" },
    { "cake", FALLING, "cake|pie|loaf|tart|pudding|waffle" },
    { "taste", FALLING, "sweet|warm|plain|lovely|burnt|huge|soft|salty|crisp" },
    { "food", FALLING, "bread|soup|milk|cheese|a {taste} {cake}|the last {items}|butter|honey" },

    /* ---- places ---- */
    { "places", FALLING,
      "market|beach|forest|harbor|castle|school|meadow|station|village|lake|bridge|mountain|island|"
      "library|theater|desert|swamp|orchard" },
    { "shop", FALLING, "market|bakery|corner shop|fair|farm|harbor|old mill|inn" },
    { "house", FALLING, "house|cottage|hut|cabin|mill|tower|wagon|barn|lighthouse" },
    { "size", FALLING,
      "small|big|tall|narrow|crooked|pretty|heavy|very large|tiny|dark|bright|wonderful" },
    { "high", FALLING, "tree|hill|wall|rock|ladder|tower|roof|cliff" },
    { "near", FALLING,
      "by the river|near the woods|on a hill|behind the church|under an oak|at the edge of town|"
      "next to a well|across the road|beside the railway|in the valley|between two fields|"
      "above the sea|far from here|in the north" },
    { "sites", FALLING,
      "in the garden|under the bed|behind the door|on the roof|near the gate|in a drawer|by the "
      "fire|"
      "on the stairs|under a bench|in the barn|at the window|between two stones|inside a hollow "
      "log|"
      "on a shelf|behind a curtain|in the kitchen|below the bridge|under a pillow" },

    /* ---- how and when ---- */
    { "daytime", FALLING, "morning|day|evening|afternoon|night" },
    { "day", ALIKE, "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday" },
    { "hour", ALIKE, "noon|midnight|sunrise|the stroke of {few}" },
    { "weather", FALLING,
      "sunny|rainy|windy|cold|foggy|warm|cloudy|snowy|stormy|hot|icy|dry|misty|fresh" },
    { "until", FALLING,
      "until dark|for an hour|all day long|until the bells rang|for a while|until it rained|"
      "as long as they could|until supper|till {day}|during {few} days|every {daytime}|from {day} "
      "on" },
    { "manner", FALLING,
      "quietly|slowly|for a long time|all alone|happily|with care|as if in a dream|softly|"
      "without a word|once more|very well|like never before|in secret|at {few} o'clock|by chance|"
      "too late" },
    { "few", FALLING, "2|3|4|5|6|7|8|9" },

    /* ---- doing, saying, feeling ---- */
    { "played", FALLING,
      "played|sang|danced|built a hut|flew a kite|swam|looked for shells|told jokes|ran about|"
      "fed the ducks|caught fish|drew pictures|rested|made music|watched the {bird}s|waited" },
    { "used", FALLING, "kept|carried|cleaned|guarded|mended|borrowed|studied|praised|needed" },
    { "wish", FALLING,
      "sleep|eat some soup|climb a {high}|see the {places}|play chess|bake a {cake}|go fishing|"
      "look at the {sky}|hear a story|dig a hole|visit the {seller}|read a book|find a {treasure}|"
      "buy a {gear}|learn to sing|be a {stranger}" },
    { "answered", FALLING,
      "laughed {manner}|nodded|shook {his} hand|did not answer|wanted to {wish}|went away|agreed|"
      "fell asleep|looked {moods}" },
    { "moods", FALLING,
      "happy|sad|tired|proud|afraid|lonely|angry|hopeful|calm|bored|grateful|jealous|nervous|"
      "dizzy" },
    { "reason", FALLING,
      "the {sky} {shone} {manner}|"
      "dear {friend} was {moods}|"
      "it was a {weather} {daytime}|"
      "nobody knew about the {thing}|"
      "now {his} {family} had to leave|"
      "a {bird} sang {near}|"
      "somebody had {used} the {thing}|"
      "there was no {cake} {sites}" },
    { "result", FALLING,
      "found it at once|never saw it|gave up|found only a {gear}|saw it after {few} hours|"
      "asked a {bird} for help|became {moods}|met a {stranger} instead|tore {his} {gear}" },
    { "opinion", FALLING,
      "nice|strange|better|beautiful|too bright|like new|ugly|just right|rather sad|old" },
    { "greeting", FALLING,
      "Hello|Good {daytime}|Excuse me|My dear child|Listen|Wait a moment|Please|Oh no|Dear "
      "friend" },
    { "praise", FALLING,
      "Well done|Thank you|Very good|That is right|How kind|Bravo|Excellent|Yes" },
    { "parting", FALLING, "good night|goodbye|thank you|sleep well|nothing|yes" },
    { "sky", FALLING, "sun|moon|sky|evening star|snow|rainbow|water|fire" },
    { "shone", FALLING, "shone|glowed|sparkled|faded|changed|trembled|was {colors}" },
};

const size_t esp_n_rules = sizeof esp_rules / sizeof *esp_rules;
