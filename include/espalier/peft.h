/* peft.h - adapters as PEFT writes and reads them: adapter_config.json, adapter_model.safetensors with
 * keys base_model.model.<tensor>.lora_A.weight and lora_B.weight, F32. */
#ifndef ESPALIER_PEFT_H
#define ESPALIER_PEFT_H

#include "espalier/params.h"

/* Writes the folder dir (complete or not at all). dropout: of the training, for who trains on; base: path
 * of the model that the adapter belongs to. ESP_EIO; ESP_EFAILED for a number that is NaN or infinite.
 * Collective on comm. */
esp_status esp_peft_save(const char *dir, const esp_adapter *a, const esp_model *m, double dropout,
                         const char *base, MPI_Comm comm);

/* Reads the folder dir: p and a are made (free both), a points into p->value. ESP_EUSAGE when it is not
 * there, ESP_EFORMAT for what is not a plain LoRA adapter of m. Collective on comm. */
esp_status esp_peft_load(esp_params *p, esp_adapter *a, const esp_model *m, const char *dir,
                         MPI_Comm comm);

#endif
