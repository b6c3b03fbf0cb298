/* limit.h - how much memory this job may have here, and by which source.
 *
 * Flow: esp_limit_find, before any work -> esp_limit_hold while inputs are read -> esp_predict_chunk, which
 * cuts the work to fit (estimate.h).
 *
 * Sources: MemAvailable of /proc/meminfo; of the memory cgroup (v1 or v2) of this process and of all
 * above it, what is left below memory.max, memory.high or memory.limit_in_bytes, where cached files count as
 * left; SLURM_MEM_PER_NODE, or SLURM_MEM_PER_CPU times the CPUs of the node; RLIMIT_AS and RLIMIT_DATA. Ranks
 * of a node share MemAvailable and what Slurm gave, those of a cgroup what is left in it.
 */
#ifndef ESPALIER_LIMIT_H
#define ESPALIER_LIMIT_H

#include <stdbool.h>
#include <stddef.h>

#include "espalier/status.h"

typedef struct esp_limit {
    double bytes;     /* of anonymous memory of a rank, with what it has already; 0: no limit */
    bool maps;        /* mapped files count, too: RLIMIT_AS                                    */
    char source[512]; /* "memory_limit", "cgroup /sys/fs/cgroup/job memory.max of node n3"     */
} esp_limit;

/* l [out]: the limit of each rank, the same on all of them: the least that any of them has, less a tenth for
 * all else that runs there. root goes before the names in /proc and /sys ("" but in tests). Collective on
 * world. */
void esp_limit_find(esp_limit *l, const char *root, MPI_Comm world);

/* l [out]: what all ranks of this node together may have, by the sources that are not limits of one process
 * (DBL_MAX: none of them says); no tenth is taken off. Local. */
void esp_limit_of_node(esp_limit *l, const char *root);

/* Holds this process to a limit (borrowed; NULL: none) from now on. Local. */
void esp_limit_hold(const esp_limit *l);

/* ESP_EUSAGE, naming `what` is read, when the anonymous memory of this process with `more` bytes would be
 * above the limit it is held to. Looks at most once in a millisecond, and always for 1 MiB or more. Local. */
esp_status esp_limit_check(size_t more, const char *what);

#endif
