/* adamw_impl.h - AdamW with decoupled weight decay (Loshchilov and Hutter 2019), and clipping. */
#ifndef ESPALIER_ADAMW_IMPL_H
#define ESPALIER_ADAMW_IMPL_H

#include "espalier/recover.h"
#include "exchange_impl.h"

/* Sum of the squares of this rank's share of the summed gradients; the same whatever the number of threads.
 * Local. */
double esp_grad_squares(const esp_params *p);

/* One step, number t = 1, 2, ...: with g = grad_scale * grad,
 *   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
 *   value -= rate * (weight_decay * value + m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)),
 * weight decay for matrices only. Each rank does its share, after esp_gradient_finish; afterwards all have
 * all values. Collective on the comm of x. */
void esp_adamw_step(esp_exchange *x, const esp_recover_options *o, double rate, double grad_scale,
                    size_t t);

#endif
