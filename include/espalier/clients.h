/* clients.h - what the programs that load a pruned folder ask of its sizes. */
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

/* Whether all of clients (bits of esp_client) take what p leaves of m: every layer alike, and the sizes that
 * p changes by each client's rules. g and o are those that p was made with. ESP_EUSAGE naming client, rule
 * and value, and what is admissible: the nearest local ratio of five decimals, and round_to where that helps.
 * clients 0: what transformers does not take is a warning with the same words, and ESP_OK. Local. */
esp_status esp_clients_check(const esp_plan *p, const esp_model *m, const esp_groups *g,
                             const esp_plan_options *o, unsigned clients);

/* Whether o alone says all sizes that plans leave of m, whatever the scores: not where one ranking goes over
 * units of several layers, nor where layers go that differ. Local. */
bool esp_clients_sizes_known(const esp_model *m, const esp_plan_options *o);

/* The check before there are scores, where the settings determine all sizes. ESP_EUSAGE likewise, and for
 * options that leave no plan. Local. */
esp_status esp_clients_check_early(const esp_model *m, const esp_groups *g,
                                   const esp_plan_options *o, unsigned clients);

#endif
