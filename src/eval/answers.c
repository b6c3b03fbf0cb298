/* answers.c - log-probabilities of the choices of questions, and what share of them is right.
 *
 * docs/method.md, eq. 29 and 30.
 */
#include "espalier/eval.h"

#include <math.h>
#include <stdlib.h>

#include "espalier/mem.h"
#include "losses_impl.h"

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
    const esp_units u = { &q->samples, q->first, q->n };
    esp_losses_cost cost;
    esp_loss *loss;

    ESP_NEW(loss, q->samples.n);
    esp_losses(loss, &cost, m, NULL, &u, max_tok, q->name, grid);
    for (size_t c = 0; c < q->samples.n; c++) {
        logprob[c] = -loss[c].sum;
    }
    free(loss);
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

    for (size_t i = 0; i < t->n_tasks; i++) {
        const esp_questions *q = &t->task[i];

        bytes += esp_samples_bytes(esp_samples_size(&q->samples)) +
                 2 * (q->samples.n + q->n) * sizeof(size_t);
    }
    return bytes;
}

void esp_eval_texts_digest(uint64_t words[ESP_DIGEST_WORDS], const esp_eval_texts *t)
{
    uint64_t part[ESP_DIGEST_WORDS];
    esp_digest d;

    esp_samples_digest(words, &t->samples);
    if (t->n_tasks == 0) {
        return;
    }
    esp_digest_init(&d);
    esp_digest_add(&d, words, sizeof part);
    for (size_t i = 0; i < t->n_tasks; i++) {
        esp_questions_digest(part, &t->task[i]);
        esp_digest_add(&d, part, sizeof part);
    }
    esp_digest_end_words(&d, words);
}
