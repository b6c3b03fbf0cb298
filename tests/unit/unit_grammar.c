/* unit_grammar.c - the stories: that the text determines the choices, that the stated entropy is what
 * counting gives, and that counts, sums and answers agree. */
#include "test.h"

#include <stdbool.h>

#include "espalier/corpus.h"
#include "espalier/file.h"
#include "espalier/grammar.h"
#include "espalier/rng.h"
#include "synth/grammar_impl.h"

/* ---- the text determines the choices ---------------------------------------------------------------- */

/* Skips the condition "[slot]". */
static const char *after_condition(const char *s, size_t *n)
{
    const char *end = *s == '[' ? memchr(s, ']', *n) : NULL;

    if (!end) {
        return s;
    }
    *n -= (size_t)(end + 1 - s);
    return end + 1;
}

/* Whether two alternatives are the same up to a letter, of the text and not of an action. */
static bool differ_by_a_letter(const char *a, size_t n, const char *b, size_t m)
{
    bool inside = false;

    for (size_t i = 0; i < n && i < m; i++) {
        if (a[i] != b[i]) {
            return !inside && a[i] != '{' && b[i] != '{';
        }
        inside = a[i] == '{' || (inside && a[i] != '}');
    }
    return false;
}

static void alternatives_differ(void)
{
    for (size_t r = 0; r < esp_n_rules; r++) {
        const char *a = esp_rules[r].text;

        for (size_t n = 0; esp_rule_next(&a, &n);) {
            const char *b = a;

            for (size_t m = n; esp_rule_next(&b, &m);) {
                size_t n_bare = n, m_bare = m;
                const char *bare = after_condition(a, &n_bare),
                           *other = after_condition(b, &m_bare);

                if (!differ_by_a_letter(bare, n_bare, other, m_bare)) {
                    printf("  rule %s: \"%.*s\" and \"%.*s\"\n", esp_rules[r].name, (int)n, a,
                           (int)m, b);
                    CU_FAIL("two alternatives cannot be told apart");
                }
            }
        }
    }
}

/* ---- entropy ---------------------------------------------------------------------------------------- */

/* All derivations of a rule one after another: the choices of the last one, like the digits of a number
 * whose last digit goes up. */
typedef struct odometer {
    size_t digit[16], base[16], n, at;
} odometer;

static size_t pick_by_odometer(void *state, const unsigned *weight, size_t n)
{
    odometer *o = state;

    (void)weight;
    ESP_REQUIRE(o->at < 16);
    if (o->at == o->n) {
        o->digit[o->n++] = 0;
    }
    o->base[o->at] = n;
    return o->digit[o->at++];
}

static bool turn(odometer *o)
{
    while (o->n > 0 && ++o->digit[o->n - 1] == o->base[o->n - 1]) {
        o->n--;
    }
    o->at = 0;
    return o->n > 0;
}

typedef struct outcome {
    char *text;
    double p;
    size_t seen;
} outcome;

static char *derive(esp_derivation *d, const char *rule)
{
    d->text.n = d->n_slots = 0;
    d->nats = 0;
    esp_grammar_derive(d, rule);
    return esp_format("%.*s", (int)d->text.n, d->text.data);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const outcome *)a)->text, ((const outcome *)b)->text);
}

static outcome *enumerate(const char *rule, size_t *n)
{
    odometer o = { .n = 0 };
    esp_derivation d = { .pick = pick_by_odometer, .state = &o };
    outcome *all = NULL;

    *n = 0;
    do {
        all = esp_grow(all, *n + 1, sizeof *all);
        all[*n] = (outcome){ derive(&d, rule), 0, 0 };
        all[(*n)++].p = exp(-d.nats);
    } while (turn(&o));
    qsort(all, *n, sizeof *all, by_text);
    esp_bytes_free(&d.text);
    return all;
}

/* Probabilities of all texts of a rule sum to one, no text begins another, and the texts that the
 * generator draws are as frequent as it says: the entropy of the counts is the stated one. */
static void counting_agrees(const char *rule)
{
    enum { DRAWS = 50000 };
    size_t n;
    outcome *all = enumerate(rule, &n);
    esp_rng r = { esp_rng_key(11, 0, 0), 0 };
    esp_derivation d = { .pick = esp_grammar_pick, .state = &r };
    double total = 0, entropy = 0, counted = 0, stated = 0;

    for (size_t i = 0; i < n; i++) {
        total += all[i].p;
        entropy -= all[i].p * log(all[i].p);
        CU_ASSERT(i == 0 || strncmp(all[i - 1].text, all[i].text, strlen(all[i - 1].text)) != 0);
    }
    CU_ASSERT_DOUBLE_EQUAL(total, 1, 1e-12);
    for (size_t i = 0; i < DRAWS; i++) {
        outcome key = { derive(&d, rule), 0, 0 },
                *found = bsearch(&key, all, n, sizeof *all, by_text);

        CU_ASSERT_PTR_NOT_NULL(found);
        if (found) {
            found->seen++;
        }
        stated += d.nats / DRAWS;
        free(key.text);
    }
    for (size_t i = 0; i < n; i++) {
        double p = (double)all[i].seen / DRAWS;

        counted -= p > 0 ? p * log(p) : 0;
        free(all[i].text);
    }
    CU_ASSERT_DOUBLE_EQUAL(stated, entropy, 0.02);
    CU_ASSERT_DOUBLE_EQUAL(counted, entropy, 0.02);
    CU_ASSERT(entropy > 1 && n > 10);
    free(all);
    esp_bytes_free(&d.text);
}

static void entropy_is_counted(void)
{
    counting_agrees("person");
    counting_agrees("wish");
    counting_agrees("until");
    counting_agrees("hour");
}

/* ---- the corpus ------------------------------------------------------------------------------------- */

static esp_corpus write_and_read(const char *name, size_t n, uint64_t seed, double *nats_per_byte)
{
    char *dir = esp_test_dir("grammar"), *path = esp_path(dir, name);
    esp_corpus c = { 0 };

    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_grammar_write(path, n, seed, nats_per_byte), ESP_OK);
    CU_ASSERT_EQUAL(esp_corpus_read(&c, path, NULL), ESP_OK);
    CU_ASSERT_EQUAL(c.n, n);
    free(path);
    free(dir);
    return c;
}

static void seeds(void)
{
    double nats, again, longer, other;
    esp_corpus a = write_and_read("a.txt", 50, 1, &nats),
               b = write_and_read("b.txt", 50, 1, &again);
    esp_corpus c = write_and_read("c.txt", 60, 1, &longer),
               d = write_and_read("d.txt", 50, 2, &other);
    size_t differ = 0;

    for (size_t i = 0; i < 50; i++) {
        CU_ASSERT_STRING_EQUAL(a.documents[i].text, b.documents[i].text);
        CU_ASSERT_STRING_EQUAL(a.documents[i].text, c.documents[i].text);
        differ += strcmp(a.documents[i].text, d.documents[i].text) != 0;
    }
    CU_ASSERT_EQUAL(nats, again);
    CU_ASSERT_NOT_EQUAL(nats, other);
    CU_ASSERT(differ >= 45);
    esp_corpus_free(&a);
    esp_corpus_free(&b);
    esp_corpus_free(&c);
    esp_corpus_free(&d);
}

/* The stated entropy is that of the stories as they are read, byte for byte. */
static void stated_entropy(void)
{
    double nats_per_byte, nats = 0, bytes = 0;
    esp_corpus c = write_and_read("e.txt", 300, 3, &nats_per_byte);
    esp_rng r;
    esp_derivation d = { .pick = esp_grammar_pick, .state = &r };

    for (size_t i = 0; i < c.n; i++) {
        char *text;

        r = (esp_rng){ esp_rng_key(3, i, 0), 0 };
        text = derive(&d, "story");
        CU_ASSERT_STRING_EQUAL(text, c.documents[i].text);
        nats += d.nats;
        bytes += (double)c.documents[i].n;
        free(text);
    }
    CU_ASSERT_DOUBLE_EQUAL(nats_per_byte, nats / bytes, 1e-12);
    CU_ASSERT(nats_per_byte > 0.1 && nats_per_byte < 0.3);
    esp_bytes_free(&d.text);
    esp_corpus_free(&c);
}

/* Every "A plus B is C" and "What is A plus B? Answer: C" of the text adds up; counts them. */
static size_t check_sums(const char *text)
{
    size_t n = 0;
    int a, b, c;

    for (const char *at = strstr(text, " plus "); at; at = strstr(at + 1, " plus ")) {
        if (sscanf(at - 1, "%d plus %d is %d", &a, &b, &c) == 3 ||
            sscanf(at - 1, "%d plus %d? Answer: %d.", &a, &b, &c) == 3) {
            CU_ASSERT_EQUAL(a + b, c);
            n++;
        }
    }
    return n;
}

/* Every "picked N things somewhere. She gave K to X and kept M." */
static size_t check_counts(const char *text)
{
    size_t n = 0;
    int all, given, kept;

    for (const char *at = strstr(text, " picked "); at; at = strstr(at + 1, " picked ")) {
        const char *gave = strstr(at, " gave ");

        CU_ASSERT(gave && sscanf(at, " picked %d", &all) == 1);
        CU_ASSERT(gave && sscanf(gave, " gave %d to %*s and kept %d", &given, &kept) == 2);
        CU_ASSERT(given > 0 && kept > 0);
        CU_ASSERT_EQUAL(given + kept, all);
        n++;
    }
    return n;
}

/* The answer was told before the question. */
static void check_answer(const char *text)
{
    const char *question = strstr(text, "\nQuestion: "), *mark = strstr(text, " Answer: ");
    char *answer, *story;

    CU_ASSERT(question && mark && mark > question);
    if (!question || !mark) {
        return;
    }
    story = esp_format("%.*s", (int)(question - text), text);
    answer = esp_strdup(mark + strlen(" Answer: "));
    CU_ASSERT_EQUAL(answer[strlen(answer) - 1], '.');
    answer[strlen(answer) - 1] = '\0';
    CU_ASSERT_PTR_NOT_NULL(strstr(story, answer));
    free(answer);
    free(story);
}

static void stories_agree(void)
{
    double nats;
    esp_corpus c = write_and_read("s.txt", 2000, 4, &nats);
    size_t sums = 0, counts = 0;

    for (size_t i = 0; i < c.n; i++) {
        sums += check_sums(c.documents[i].text);
        counts += check_counts(c.documents[i].text);
        check_answer(c.documents[i].text);
        CU_ASSERT_PTR_NULL(strpbrk(c.documents[i].text, "{}[]|"));
    }
    CU_ASSERT(sums > 100 && counts > 100);
    esp_corpus_free(&c);
}

ESP_TEST_MAIN("grammar", { "alternatives differ by a letter", alternatives_differ },
              { "the entropy is that of counting", entropy_is_counted }, { "seeds", seeds },
              { "stated entropy of a corpus", stated_entropy },
              { "counts, sums and answers agree", stories_agree })
