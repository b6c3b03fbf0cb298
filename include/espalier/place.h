/* place.h - what a path is that is no model folder of Hugging Face, and what to do about it, as messages. */
#ifndef ESPALIER_PLACE_H
#define ESPALIER_PLACE_H

#include "espalier/status.h"

/* ESP_EUSAGE unless path is a folder, saying what it is: a name of the hub, a file of weights, a GGUF file,
 * a PyTorch checkpoint. Local. */
esp_status esp_place_check(const char *path);

/* ESP_EUSAGE, saying what a folder without config.json is: Meta's checkpoint, GGUF files, an adapter, a cache
 * of the hub, a folder of model folders. Never ESP_OK. Local. */
esp_status esp_place_no_config(const char *dir);

/* ESP_EUSAGE, saying which weights a model folder without model.safetensors and index has instead. Never
 * ESP_OK. Local. */
esp_status esp_place_no_weights(const char *dir);

#endif
