/* surgery.h - the cut: kept rows and columns of the mapped tensors into a new model folder. */
#ifndef ESPALIER_SURGERY_H
#define ESPALIER_SURGERY_H

#include "espalier/plan.h"

/* Writes the pruned model to dir (dir.part, committed at the end), same dtypes, tokenizer copied.
 * Collective on comm. */
esp_status esp_surgery(const char *dir, const esp_model *m, const esp_groups *g, const esp_plan *p,
                       MPI_Comm comm);

#endif
