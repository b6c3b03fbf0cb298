/* schedule.c - warm-up and decay (docs/method.md, eq. 27). */
#include "schedule_impl.h"

#include <math.h>

#include "data_impl.h"

size_t esp_schedule_epoch(const esp_recover_options *o, size_t n)
{
    return (n + o->batch - 1) / o->batch;
}

size_t esp_schedule_steps(const esp_recover_options *o, size_t n)
{
    return o->steps > 0 ? o->steps : (size_t)ceil(o->epochs * (double)esp_schedule_epoch(o, n));
}

esp_status esp_recover_check_early(size_t *steps, const esp_samples *samples,
                                   const esp_recover_options *o)
{
    esp_data d;
    esp_status st = esp_data_split(&d, samples, o->validation, o->seed);

    *steps = st == ESP_OK ? esp_schedule_steps(o, d.n_train) : 0;
    esp_data_free(&d);
    return st;
}

double esp_schedule_rate(const esp_recover_options *o, size_t s, size_t steps)
{
    double all = (double)steps, done = (double)s;
    double warm = o->warmup < 1 ? ceil(o->warmup * all) : o->warmup;

    warm = fmin(warm, all);
    if (done < warm) {
        return o->learning_rate * (done + 1) / warm;
    }
    return o->min_learning_rate +
           (o->learning_rate - o->min_learning_rate) * (all - done) / (all - warm);
}
