/* traffic.h - bytes that this process has sent to other ranks, by kind, and how long it has waited for
 * them. Counters of the process, never reset: those of a stage are the difference of two
 * readings.
 *
 * What counts as sent, a rank's mean over the P ranks of the communicator, of n bytes:
 *   ESP_COST_REDUCE_SCATTER  (P - 1) / P n    reduce-scatter and all-gather (n: all parts together), reduce,
 *                                             and broadcast along a tree (all ranks but one pass n on once)
 *   ESP_COST_ALLREDUCE       2 (P - 1) / P n  a reduce-scatter and an all-gather
 *   ESP_COST_P2P             n                a message to one rank, counted by its sender
 * These are the least that can do; an MPI library may send more where messages are short. A few bytes of
 * control (agreements on errors, sizes) are not counted.
 */
#ifndef ESPALIER_TRAFFIC_H
#define ESPALIER_TRAFFIC_H

#include <stddef.h>

#include "espalier/status.h"

typedef enum esp_traffic_kind {
    ESP_SENT_WEIGHT_GRADIENTS, /* score: gradients of weights, f64                          */
    ESP_SENT_SUMS,             /* score: sums over rows and columns, f64; losses             */
    ESP_SENT_ACTIVATIONS,      /* hidden states and their gradients between pipeline stages, f32 */
    ESP_SENT_GRADIENTS,        /* recover: gradients of what is trained, f32                 */
    ESP_SENT_TEACHER,          /* recover: hidden states of the teacher, bf16                */
    ESP_SENT_VALUES,           /* parameters and optimiser state: trained, broadcast or gathered */
    ESP_N_SENT
} esp_traffic_kind;

typedef enum esp_moves { ESP_COST_REDUCE_SCATTER, ESP_COST_ALLREDUCE, ESP_COST_P2P } esp_moves;

typedef struct esp_traffic {
    double bytes[ESP_N_SENT];
    double calls[ESP_N_SENT];
    double waited; /* seconds */
} esp_traffic;

const char *esp_traffic_name(esp_traffic_kind k); /* "weight_gradients" ...; static. Local. */

/* Bytes that count as sent by all `size` ranks together when they move n bytes in that way; 0 for one rank.
 * ESP_COST_P2P: n. Local. */
double esp_moved_bytes(esp_moves how, double n, int size);

/* Counts one call that moves n bytes over comm, as this rank's share of them; nothing where comm has one
 * rank. Local. */
void esp_sent(esp_traffic_kind k, esp_moves how, size_t n, MPI_Comm comm);

/* Counts the seconds from `began` (of esp_now) to now as spent in MPI: waiting for other ranks, or driving
 * messages on. Local. */
void esp_waited(double began);

/* What this process has counted so far. Local. */
esp_traffic esp_traffic_now(void);

/* now - then, summed over the ranks of comm: bytes, calls and seconds of all ranks together. The
 * same on all of them. Collective on comm. */
esp_traffic esp_traffic_since(const esp_traffic *then, MPI_Comm comm);

#endif
