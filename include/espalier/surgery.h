/* surgery.h - the cut: kept rows and columns of the mapped tensors into a new model folder.
 *
 * A row or column goes when the group it belongs to goes; what belongs to no group stays. Numbers stay as
 * they are but for two factors that inference engines derive from config.json: a residual that counts sqrt(2
 * L) times where layers go, and embedded tokens that count sqrt(D) times where channels go. The weights
 * beside them are multiplied by what makes up for the change, once rounded to their type.
 */
#ifndef ESPALIER_SURGERY_H
#define ESPALIER_SURGERY_H

#include "espalier/plan.h"
#include "espalier/tensor_writer.h"

/* Writes what plan p leaves of m: the same dtypes, biases with their rows, layers that are left numbered from
 * 0. g are the groups of m. digest [out]: of the model written; NULL: not wanted. Errors are those of
 * esp_model_save. Collective on comm. */
esp_status esp_surgery(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *m,
                       const esp_groups *g, const esp_plan *p, MPI_Comm comm);

/* Bytes of memory that it takes where the model left has the shapes of `to`. Local. */
size_t esp_surgery_bytes(const esp_model *m, const esp_groups *g, const esp_model *to,
                         const esp_writer *writer);

#endif
