/* rope_impl.h - config.json's rotary positions while they are read. */
#ifndef ESPALIER_ROPE_IMPL_H
#define ESPALIER_ROPE_IMPL_H

#include "model/model_impl.h"

#define ESP_LARGEST_ANGLE 1e6 /* a position, and of factors: far beyond all that is in use */

typedef struct esp_rope_reader {
    esp_model *model;              /* its arch and dims known, its rope under way           */
    const esp_config_part *config; /* all of config.json                                    */
    const esp_config_part *part;   /* its object with the scaling; json NULL: there is none */
    double theta;                  /* base of the angles                                    */
} esp_rope_reader;

/* Scales plain frequencies as r->part says, and lengthens dims.max_positions to what the model is made for.
 * ESP_EFORMAT naming file, key and value. Local. */
esp_status esp_rope_scale(esp_rope_reader *r);

#endif
