/* peft.h - adapters as PEFT reads them and esp_adapter_save writes them: adapter_config.json,
 * adapter_model.safetensors with keys base_model.model.<tensor>.lora_A.weight and lora_B.weight, F32.
 */
#ifndef ESPALIER_PEFT_H
#define ESPALIER_PEFT_H

#include "espalier/params.h"

/* Reads the folder dir: p and a [out, owned], a points into p->value. ESP_EUSAGE when it is not there,
 * ESP_EFORMAT for what is not a plain LoRA adapter of m (shapes, F32, F16 or BF16, finite; no rank or alpha
 * of its own for a weight, no DoRA), ESP_EIO; p and a are {0} then. The same status on all ranks. Collective
 * on comm. */
esp_status esp_peft_load(esp_params *p, esp_adapter *a, const esp_model *m, const char *dir,
                         MPI_Comm comm);

#endif
