/* kept_impl.h - values of blocks that stay from the forward to the backward, which then need not make them
 * again.
 */
#ifndef ESPALIER_KEPT_IMPL_H
#define ESPALIER_KEPT_IMPL_H

#include "espalier/pass.h"

/* p->kept: what options.kept_layers says, made or (bytes not NULL) only added up. Local. */
void esp_kept_make(esp_pass *p, size_t *bytes);
void esp_kept_free(esp_pass *p);

/* Whether the values of a layer are kept. Local. */
bool esp_kept_has(const esp_pass *p, size_t layer);

/* Points the values of the block, all but its input, at those of the layer that are kept, from row `row` of
 * the batch on, and at scratch. Local. */
void esp_kept_place(const esp_pass *p, size_t layer, size_t row);

#endif
