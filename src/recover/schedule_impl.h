/* schedule_impl.h - how many steps there are, and the learning rate of each. */
#ifndef ESPALIER_SCHEDULE_IMPL_H
#define ESPALIER_SCHEDULE_IMPL_H

#include "espalier/recover.h"

/* Steps of an epoch of n samples (part of a batch is a step), and of a training: o->steps, or o->epochs of
 * them. Local. */
size_t esp_schedule_epoch(const esp_recover_options *o, size_t n);
size_t esp_schedule_steps(const esp_recover_options *o, size_t n);

/* Learning rate of step s = 0 .. steps - 1: linear from peak / W to the peak over W warm-up steps, then
 * linear down, reaching o->min_learning_rate after the last step. Local. */
double esp_schedule_rate(const esp_recover_options *o, size_t s, size_t steps);

#endif
