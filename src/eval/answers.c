/* answers.c - log-probabilities of the choices of questions, and what share of them is right.
 *
 * docs/method.md, eq. 44 to 46.
 */
#include "espalier/eval.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "losses_impl.h"

/* ---- what choices have in common ------------------------------------------------------------------- */

/* Samples that are computed in the place of those of the choices: where a question's choices begin alike,
 * a trunk without targets, then what each has beyond it. */
typedef struct pieces {
    esp_samples samples;
    size_t *first;     /* [n + 1] owned; pieces of question j are first[j] .. first[j + 1] - 1 */
    size_t *of_choice; /* [choices] owned; the piece with the targets of each */
} pieces;

static void pieces_free(pieces *p)
{
    esp_samples_free(&p->samples);
    free(p->first);
    free(p->of_choice);
}

static size_t length_of(const esp_samples *s, size_t j)
{
    return s->start[j + 1] - s->start[j];
}

/* Tokens before the first with a target that two samples have alike, n at most. */
static size_t common(const esp_samples *s, size_t a, size_t b, size_t n)
{
    size_t t = 0, at = s->start[a], bt = s->start[b];

    while (t < n && s->ids[at + t] == s->ids[bt + t] && s->targets[at + t] == ESP_NO_TARGET &&
           s->targets[bt + t] == ESP_NO_TARGET) {
        t++;
    }
    return t;
}

/* Whether a sample gives the same when it is cut behind `trunk` tokens. Not where its keys would turn by
 * how long it is, where a window hides some of them (sums go by blocks of keys from the first that is
 * seen), or where tokens of the trunk see later ones. */
static bool can_branch(const esp_model *m, const esp_samples *s, size_t j, size_t trunk)
{
    const esp_prefix_rule *rule = esp_model_prefix_rule(m);
    size_t n = length_of(s, j), prefix = 0;

    if (m->rope.border > 0 && n > m->rope.border) {
        return false;
    }
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        size_t window = m->dims.layer[l].window;

        if (window > 0 && n > window) {
            return false;
        }
    }
    while (rule && prefix < n && s->ids[s->start[j] + prefix] != rule->start) {
        prefix++;
    }
    return prefix == n || prefix <= trunk;
}

/* Tokens of the trunk of a question's choices; 0: they are computed as a whole. */
static size_t trunk_of(const esp_model *m, const esp_questions *q, size_t j)
{
    const esp_samples *s = &q->samples;
    size_t first = q->first[j], trunk = length_of(s, first) - 1;

    for (size_t c = first; c < q->first[j + 1]; c++) {
        trunk = common(s, first, c, esp_min(trunk, length_of(s, c) - 1));
    }
    for (size_t c = first; c < q->first[j + 1]; c++) {
        trunk = can_branch(m, s, c, trunk) ? trunk : 0;
    }
    return trunk;
}

static void append_part(esp_samples *to, const esp_samples *s, size_t j, size_t from, size_t n,
                        size_t back)
{
    size_t at = s->start[j] + from;

    esp_samples_append(to, s->ids + at, s->targets + at, n, back);
}

static void cut_pieces(pieces *p, const esp_model *m, const esp_questions *q)
{
    const esp_samples *s = &q->samples;

    *p = (pieces){ 0 };
    ESP_NEW(p->first, q->n + 1);
    ESP_NEW(p->of_choice, s->n);
    for (size_t j = 0; j < q->n; j++) {
        size_t trunk = trunk_of(m, q, j);

        p->first[j] = p->samples.n;
        if (trunk > 0) {
            append_part(&p->samples, s, q->first[j], 0, trunk, 0);
        }
        for (size_t c = q->first[j]; c < q->first[j + 1]; c++) {
            size_t back = trunk > 0 ? p->samples.n - p->first[j] : 0;

            p->of_choice[c] = p->samples.n;
            append_part(&p->samples, s, c, trunk, length_of(s, c) - trunk, back);
        }
    }
    p->first[q->n] = p->samples.n;
}

/* ---- log-probabilities ------------------------------------------------------------------------------ */

static esp_status check_finite(const double *logprob, const esp_questions *q)
{
    for (size_t j = 0; j < q->n; j++) {
        for (size_t c = q->first[j]; c < q->first[j + 1]; c++) {
            if (!isfinite(logprob[c])) {
                return esp_fail(ESP_EFAILED,
                                "%s: question %zu of %zu: a log-probability is %g: weights are too "
                                "large for f32 or broken; get the model anew",
                                q->name, j + 1, q->n, -fabs(logprob[c]));
            }
        }
    }
    return ESP_OK;
}

esp_status esp_answer(double *logprob, const esp_model *m, const esp_questions *q, size_t max_tok,
                      const esp_grid *grid)
{
    esp_losses_cost cost;
    esp_units u;
    esp_loss *loss;
    pieces p;

    cut_pieces(&p, m, q);
    u = (esp_units){ &p.samples, p.first, q->n };
    ESP_NEW(loss, p.samples.n);
    esp_losses(loss, &cost, m, NULL, &u, max_tok, q->name, grid);
    for (size_t c = 0; c < q->samples.n; c++) {
        logprob[c] = -loss[p.of_choice[c]].sum;
    }
    free(loss);
    pieces_free(&p);
    return check_finite(logprob, q);
}

/* ---- grades --------------------------------------------------------------------------------------- */

static double divisor(const esp_questions *q, size_t c, esp_norm_by by)
{
    return by == ESP_NORM_CHARACTERS ? (double)q->characters[c]
           : by == ESP_NORM_BYTES    ? (double)q->bytes[c]
                                     : 1;
}

size_t esp_choose(const double *logprob, const esp_questions *q, size_t j, esp_norm_by by)
{
    size_t first = q->first[j], best = first;

    for (size_t c = first; c < q->first[j + 1]; c++) {
        if (logprob[c] / divisor(q, c, by) > logprob[best] / divisor(q, best, by)) {
            best = c;
        }
    }
    return best - first;
}

esp_grade esp_grade_of(const double *logprob, const esp_questions *q, esp_norm_by by)
{
    double right = 0, squares = 0, n = (double)q->n;
    esp_grade g;

    for (size_t j = 0; j < q->n; j++) {
        right += esp_choose(logprob, q, j, by) == q->gold[j];
    }
    g.accuracy = right / n;
    squares = right * (1 - g.accuracy) * (1 - g.accuracy) + (n - right) * g.accuracy * g.accuracy;
    g.stderror = q->n > 1 ? sqrt(squares / (n - 1)) / sqrt(n) : NAN;
    return g;
}

/* ---- what a model is judged on ---------------------------------------------------------------------- */

void esp_eval_texts_free(esp_eval_texts *t)
{
    esp_samples_free(&t->samples);
    for (size_t i = 0; i < t->n_corpora; i++) {
        esp_samples_free(&t->corpus[i].samples);
        free(t->corpus[i].name);
    }
    free(t->corpus);
    for (size_t i = 0; i < t->n_tasks; i++) {
        esp_questions_free(&t->task[i]);
    }
    free(t->task);
    *t = (esp_eval_texts){ 0 };
}

/* Tokens of the question whose choices have the most of them. */
static size_t longest_question(const esp_questions *q)
{
    size_t longest = 0;

    for (size_t j = 0; j < q->n; j++) {
        longest =
            esp_max(longest, q->samples.start[q->first[j + 1]] - q->samples.start[q->first[j]]);
    }
    return longest;
}

esp_text_size esp_eval_texts_size(const esp_eval_texts *t)
{
    esp_text_size all = esp_samples_size(&t->samples);

    for (size_t i = 0; i < t->n_corpora; i++) {
        esp_text_size own = esp_samples_size(&t->corpus[i].samples);

        all.samples += own.samples;
        all.tokens += own.tokens;
        all.longest = esp_max(all.longest, own.longest);
    }
    for (size_t i = 0; i < t->n_tasks; i++) {
        esp_text_size own = esp_samples_size(&t->task[i].samples);

        all.samples += own.samples;
        all.tokens += own.tokens;
        all.longest = esp_max(all.longest, longest_question(&t->task[i]));
    }
    return all;
}

size_t esp_eval_texts_bytes(const esp_eval_texts *t)
{
    size_t bytes = esp_samples_bytes(esp_samples_size(&t->samples));

    for (size_t i = 0; i < t->n_corpora; i++) {
        bytes += esp_samples_bytes(esp_samples_size(&t->corpus[i].samples));
    }
    for (size_t i = 0; i < t->n_tasks; i++) {
        const esp_questions *q = &t->task[i];

        bytes += 2 * esp_samples_bytes(esp_samples_size(&q->samples)) + /* whole, and as pieces */
                 4 * (q->samples.n + q->n) * sizeof(size_t);
    }
    return bytes;
}

void esp_eval_texts_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_eval_texts *t)
{
    uint64_t part[ESP_DIGEST_WORDS];
    esp_digest d;

    esp_samples_digest(words, &t->samples);
    if (t->n_tasks + t->n_corpora == 0) {
        return;
    }
    esp_digest_init(&d);
    esp_digest_add(&d, words, sizeof part);
    for (size_t i = 0; i < t->n_corpora; i++) {
        esp_samples_digest(part, &t->corpus[i].samples);
        esp_digest_add(&d, part, sizeof part);
    }
    for (size_t i = 0; i < t->n_tasks; i++) {
        esp_questions_digest(part, &t->task[i]);
        esp_digest_add(&d, part, sizeof part);
    }
    esp_digest_end_words(&d, words);
}
