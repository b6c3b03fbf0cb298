/* status.h - what a function answers, and how ranks come to the same answer.
 *
 * A function that reads input or touches a file returns esp_status and leaves one line in the error
 * slot of its rank. A bug, lack of memory or an MPI failure does not return: esp_bug aborts the job.
 */
#ifndef ESPALIER_STATUS_H
#define ESPALIER_STATUS_H

#include <mpi.h>

typedef enum esp_status {
    ESP_OK = 0,
    ESP_EUSAGE,   /* command line, configuration or a path in it refused */
    ESP_EFORMAT,  /* content of an input file refused                    */
    ESP_EIO,      /* the operating system refused a read or a write      */
    ESP_EFAILED,  /* the run failed for another reason                   */
    ESP_ESTOPPED, /* stopped early on request, a good checkpoint exists  */
    ESP_N_STATUS
} esp_status;

/* Exit code of the program for a status (docs/running.md): 0, 1, 2 or 75. Local. */
int esp_exit_code(esp_status st);

/* Writes the message, cut at 2047 bytes, into this rank's error slot (replacing an older one) and returns st.
 * Local. */
esp_status esp_fail(esp_status st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the message in the slot and returns st. Local. */
esp_status esp_fail_in(esp_status st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The message of this rank, "" when there is none. Owned by the slot. Local. */
const char *esp_error_message(void);

/* Empties the slot, for callers that recover from a failure. Local. */
void esp_error_clear(void);

/* One status for all ranks: that of the lowest rank whose st is not ESP_OK, which also prints its message to
 * stderr. Then the slots of all ranks are empty, so that agreeing on the same failure again prints nothing.
 * Without a failure it costs one all-reduce of an int. Collective on comm. */
esp_status esp_agree(MPI_Comm comm, esp_status st);

/* Prints "espalier: rank R: file:line: message" and aborts all ranks. Never returns. Local. */
_Noreturn void esp_bug(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Ends all ranks with exit code 1 and no message: the caller has printed one. For where no status can be
 * returned, as in a signal handler. Never returns. Local. */
_Noreturn void esp_end_job(void);

/* Leave the calling function with the status of expr unless it is ESP_OK. */
#define ESP_TRY(expr)                       \
    do {                                    \
        esp_status esp_try_status = (expr); \
        if (esp_try_status != ESP_OK) {     \
            return esp_try_status;          \
        }                                   \
    } while (0)

/* MPI calls do not fail in a run that can go on. */
#define ESP_MPI(call)                                                               \
    do {                                                                            \
        int esp_mpi_code = (call);                                                  \
        if (esp_mpi_code != MPI_SUCCESS) {                                          \
            esp_bug(__FILE__, __LINE__, "MPI error %d in %s", esp_mpi_code, #call); \
        }                                                                           \
    } while (0)

/* A condition that only a bug can break; also in release builds. */
#define ESP_REQUIRE(cond)                                     \
    do {                                                      \
        if (!(cond)) {                                        \
            esp_bug(__FILE__, __LINE__, "broken: %s", #cond); \
        }                                                     \
    } while (0)

#endif
