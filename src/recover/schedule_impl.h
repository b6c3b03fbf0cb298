/* schedule_impl.h - how many steps there are, and the learning rate of each. */
#ifndef ESPALIER_SCHEDULE_IMPL_H
#define ESPALIER_SCHEDULE_IMPL_H

#include "espalier/recover.h"

/* Steps of a training on n samples: o->steps, or what o->epochs need (part of a batch is a step). Local. */
size_t esp_schedule_steps(const esp_recover_options *o, size_t n);

/* Learning rate of step s = 0 .. steps - 1: linear from peak / W to the peak over W warm-up steps, then
 * linear down, reaching o->min_learning_rate after the last step. Local. */
double esp_schedule_rate(const esp_recover_options *o, size_t s, size_t steps);

#endif
