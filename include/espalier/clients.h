/* clients.h - which sizes of a model the inference engines can load: transformers, vLLM and llama.cpp. The
 * setting prune.clients names those that have to; without it transformers is warned of.
 */
#ifndef ESPALIER_CLIENTS_H
#define ESPALIER_CLIENTS_H

#include "espalier/plan.h"

typedef enum esp_client {
    ESP_CLIENT_TRANSFORMERS,
    ESP_CLIENT_VLLM,
    ESP_CLIENT_LLAMA_CPP,
    ESP_N_CLIENTS
} esp_client;

/* "transformers" "vllm" "llama.cpp"; NULL from ESP_N_CLIENTS on. Local. */
const char *esp_client_name(esp_client c);

/* Whether all of clients (bits of esp_client) can load what p leaves of m: layers are all alike, and the
 * sizes that p changes keep each engine's rules. g and o are those that p was made with. ESP_EUSAGE naming
 * engine, rule and value, and what is admissible: the nearest local ratio of five decimals, and round_to
 * where that helps. clients 0: what transformers cannot load is a warning of the same words, and ESP_OK.
 * Local. */
esp_status esp_clients_check(const esp_plan *p, const esp_model *m, const esp_groups *g,
                             const esp_plan_options *o, unsigned clients);

/* Whether o alone determines all sizes that a plan leaves of m, whatever the scores: not where one ranking
 * goes over units of several layers, nor where whole layers go that differ. Local. */
bool esp_clients_sizes_known(const esp_model *m, const esp_plan_options *o);

/* The same check before there are scores, where esp_clients_sizes_known; elsewhere ESP_OK. ESP_EUSAGE
 * likewise, and for options that no plan can meet. Local. */
esp_status esp_clients_check_early(const esp_model *m, const esp_groups *g,
                                   const esp_plan_options *o, unsigned clients);

#endif
