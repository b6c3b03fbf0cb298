/* peft.h - adapters as PEFT writes and reads them: adapter_config.json, adapter_model.safetensors. */
#ifndef ESPALIER_PEFT_H
#define ESPALIER_PEFT_H

#include "espalier/params.h"
#include "espalier/recover.h"

/* Keys base_model.model.<name>.lora_A.weight / lora_B.weight, F32. base: path put into
 * base_model_name_or_path. Collective on comm. */
esp_status esp_peft_save(const char *dir, const esp_params *p, const esp_adapter *a,
                         const esp_model *m, const esp_recover_options *o, const char *base,
                         MPI_Comm comm);

/* The merged model W + scale B A in the base's dtypes (full: the trained weights), tokenizer copied.
 * Collective on comm. */
esp_status esp_merge(const char *dir, const esp_model *m, const esp_adapter *a, MPI_Comm comm);

#endif
