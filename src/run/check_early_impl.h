/* check_early_impl.h - what is known of a run before its work begins. For rank 0. */
#ifndef ESPALIER_CHECK_EARLY_IMPL_H
#define ESPALIER_CHECK_EARLY_IMPL_H

#include "run_impl.h"

/* What settings and config.json tell of these stages, before weights and texts are read. ESP_EUSAGE naming
 * the setting; warnings for what is surely not meant. */
esp_status esp_run_check_early(const esp_run *run, unsigned stages);

/* What the sizes of their texts tell, once these are read. */
esp_status esp_run_check_samples(const esp_run *run, unsigned stages);

#endif
