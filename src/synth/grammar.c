/* grammar.c - following the rules of the stories, and what the choices cost. */
#include "espalier/grammar.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/mem.h"
#include "espalier/rng.h"
#include "grammar_impl.h"

bool esp_rule_next(const char **at, size_t *n)
{
    *at += *n;
    if (*n > 0) {
        if (**at == '\0') {
            return false;
        }
        ++*at; /* the bar */
    }
    *n = strcspn(*at, "|");
    ESP_REQUIRE(*n > 0);
    return true;
}

/* ---- memory ---------------------------------------------------------------------------------------- */

static char *find_slot(esp_derivation *d, const char *name)
{
    for (size_t i = 0; i < d->n_slots; i++) {
        if (strcmp(d->slot[i].name, name) == 0) {
            return d->slot[i].holds;
        }
    }
    return NULL;
}

static const char *read_slot(esp_derivation *d, const char *name)
{
    const char *holds = find_slot(d, name);

    ESP_REQUIRE(holds);
    return holds;
}

static void set_slot(esp_derivation *d, const char *name, const char *text, size_t n)
{
    char *holds = find_slot(d, name);

    if (!holds) {
        ESP_REQUIRE(d->n_slots < ESP_GRAMMAR_SLOTS && strlen(name) < ESP_GRAMMAR_WORD);
        memcpy(d->slot[d->n_slots].name, name, strlen(name) + 1);
        holds = d->slot[d->n_slots++].holds;
    }
    ESP_REQUIRE(n < ESP_GRAMMAR_WORD);
    memcpy(holds, text, n);
    holds[n] = '\0';
}

static bool is_held(const esp_derivation *d, const char *text, size_t n)
{
    for (size_t i = 0; i < d->n_slots; i++) {
        if (strlen(d->slot[i].holds) == n && memcmp(d->slot[i].holds, text, n) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- choices --------------------------------------------------------------------------------------- */

static size_t choose(esp_derivation *d, const unsigned *weight, size_t n)
{
    size_t i = d->pick(d->state, weight, n);
    double total = 0;

    ESP_REQUIRE(i < n && weight[i] > 0);
    for (size_t j = 0; j < n; j++) {
        total += weight[j];
    }
    d->nats += log(total / weight[i]);
    return i;
}

static const esp_rule *find_rule(const char *name)
{
    for (size_t i = 0; i < esp_n_rules; i++) {
        if (strcmp(esp_rules[i].name, name) == 0) {
            return &esp_rules[i];
        }
    }
    return NULL;
}

/* Takes "[slot]" off the front of an alternative; whether it may be chosen. */
static bool is_open(esp_derivation *d, const char **s, size_t *n)
{
    char name[ESP_GRAMMAR_WORD];
    int end = 0;

    if (**s == '[') {
        ESP_REQUIRE(sscanf(*s, "[%31[a-zA-Z]]%n", name, &end) == 1 && end > 0);
        *s += end;
        *n -= (size_t)end;
        return find_slot(d, name) != NULL;
    }
    return true;
}

/* ---- actions --------------------------------------------------------------------------------------- */

static void derive(esp_derivation *d, const esp_rule *rule, bool fresh);

static void write_word(esp_derivation *d, const char *word)
{
    esp_bytes_add(&d->text, word, strlen(word));
}

static int number(esp_derivation *d, const char *slot)
{
    return (int)strtol(read_slot(d, slot), NULL, 10);
}

static void write_number(esp_derivation *d, const char *slot, int value)
{
    char text[16];

    snprintf(text, sizeof text, "%d", value);
    set_slot(d, slot, text, strlen(text));
    write_word(d, text);
}

static void draw_less(esp_derivation *d, const char *slot, int than)
{
    static const unsigned alike[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };

    ESP_REQUIRE(than >= 2 && than <= 10);
    write_number(d, slot, 1 + (int)choose(d, alike, (size_t)than - 1));
}

static void derive_into(esp_derivation *d, const char *slot, const char *rule, bool fresh)
{
    size_t before = d->text.n;

    derive(d, find_rule(rule), fresh);
    set_slot(d, slot, d->text.data + before, d->text.n - before);
}

/* One action: its words, of which n are there. */
static void act(esp_derivation *d, char word[4][ESP_GRAMMAR_WORD], int n)
{
    const char *what = word[0], *slot = word[1];

    if (n == 1 && find_rule(what)) {
        derive(d, find_rule(what), false);
    } else if (n == 1) {
        write_word(d, read_slot(d, what));
    } else if (n == 3 && strcmp(what, "put") == 0) {
        derive_into(d, slot, word[2], false);
    } else if (n == 3 && strcmp(what, "new") == 0) {
        derive_into(d, slot, word[2], true);
    } else if (n == 3 && strcmp(what, "let") == 0) {
        set_slot(d, slot, word[2], strlen(word[2]));
    } else if (n == 3 && strcmp(what, "copy") == 0) {
        set_slot(d, slot, read_slot(d, word[2]), strlen(read_slot(d, word[2])));
    } else if (n == 3 && strcmp(what, "less") == 0) {
        draw_less(d, slot, number(d, word[2]));
    } else if (n == 4 && strcmp(what, "sum") == 0) {
        write_number(d, slot, number(d, word[2]) + number(d, word[3]));
    } else if (n == 4 && strcmp(what, "rest") == 0) {
        write_number(d, slot, number(d, word[2]) - number(d, word[3]));
    } else {
        esp_bug(__FILE__, __LINE__, "no such action in the grammar: %s with %d words", what, n);
    }
}

static void follow(esp_derivation *d, const char *s, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t plain = 0;
        char word[4][ESP_GRAMMAR_WORD];
        int n_words, end = 0;

        while (at + plain < n && s[at + plain] != '{') {
            plain++;
        }
        esp_bytes_add(&d->text, s + at, plain);
        at += plain;
        if (at == n) {
            break;
        }
        n_words = sscanf(s + at, "{%31[a-zA-Z] %31[a-zA-Z] %31[a-zA-Z] %31[a-zA-Z]", word[0],
                         word[1], word[2], word[3]);
        act(d, word, n_words);
        ESP_REQUIRE(sscanf(s + at, "{%*[a-zA-Z ]}%n", &end) == 0 && end > 0);
        at += (size_t)end;
    }
}

static void derive(esp_derivation *d, const esp_rule *rule, bool fresh)
{
    const char *text[ESP_GRAMMAR_CHOICES], *at;
    size_t length[ESP_GRAMMAR_CHOICES], n = 0, n_bytes = 0, chosen;
    unsigned weight[ESP_GRAMMAR_CHOICES];

    ESP_REQUIRE(rule);
    for (at = rule->text; esp_rule_next(&at, &n_bytes); n++) {
        ESP_REQUIRE(n < ESP_GRAMMAR_CHOICES);
        text[n] = at;
        length[n] = n_bytes;
        weight[n] = is_open(d, &text[n], &length[n]) && !(fresh && is_held(d, text[n], length[n]));
    }
    for (size_t i = 0; i < n; i++) {
        weight[i] *= rule->falling ? (unsigned)(n - i) : 1;
    }
    chosen = n > 1 ? choose(d, weight, n) : 0;
    follow(d, text[chosen], length[chosen]);
}

void esp_grammar_derive(esp_derivation *d, const char *rule)
{
    derive(d, find_rule(rule), false);
}

/* ---- the corpus ------------------------------------------------------------------------------------ */

size_t esp_grammar_pick(void *state, const unsigned *weight, size_t n)
{
    size_t total = 0, at, i = 0;

    for (size_t j = 0; j < n; j++) {
        total += weight[j];
    }
    for (at = esp_rng_below(state, total); at >= weight[i]; i++) {
        at -= weight[i];
    }
    return i;
}

/* Story i, behind what d has already, drawn with r. */
static void write_story(esp_derivation *d, esp_rng *r, uint64_t seed, uint64_t i)
{
    *r = (esp_rng){ esp_rng_key(seed, i, 0), 0 };
    d->state = r;
    d->n_slots = 0; /* a story remembers nothing of the one before */
    esp_grammar_derive(d, "story");
    esp_bytes_add(&d->text, "\n\n", 2);
}

bool esp_grammar_made(const char *path, uint64_t seed)
{
    esp_derivation d = { .pick = esp_grammar_pick };
    esp_rng r;
    FILE *in = fopen(path, "rb");
    char *begin;
    bool made;

    write_story(&d, &r, seed, 0);
    begin = esp_calloc(d.text.n, 1);
    made = in && fread(begin, 1, d.text.n, in) == d.text.n &&
           memcmp(begin, d.text.data, d.text.n) == 0;
    if (in) {
        fclose(in);
    }
    free(begin);
    esp_bytes_free(&d.text);
    return made;
}

esp_status esp_grammar_write(const char *path, size_t n_stories, uint64_t seed,
                             double *nats_per_byte)
{
    esp_derivation d = { .pick = esp_grammar_pick };
    esp_rng r;
    size_t between = 0;
    esp_status st;

    for (uint64_t i = 0; i < n_stories; i++) {
        write_story(&d, &r, seed, i);
        between += 2;
    }
    *nats_per_byte = n_stories > 0 ? d.nats / (double)(d.text.n - between) : 0;
    st = esp_file_write(path, d.text.data, d.text.n);
    esp_bytes_free(&d.text);
    return st;
}
