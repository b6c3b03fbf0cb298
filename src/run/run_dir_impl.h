/* run_dir_impl.h - the folder of a run: its lock, what is recorded as done, and what happened.
 *
 * One process works on it, rank 0: nothing in here is collective.
 */
#ifndef ESPALIER_RUN_DIR_IMPL_H
#define ESPALIER_RUN_DIR_IMPL_H

#include <jansson.h>

#include "espalier/clock.h"
#include "espalier/config.h"
#include "espalier/digest.h"
#include "lock_impl.h"

typedef struct esp_run_dir {
    char *path;       /* owned                                                     */
    esp_lock lock;    /* of the folder, held while it is open                      */
    json_t *manifest; /* {"espalier": version, "stages": {name: record}, "digest"}; owned */
    int events;       /* events.jsonl, appended to; -1 until the folder is made    */
    int lost;         /* errno of the first line that could not be written         */
    double began;     /* esp_now() of the first event                              */
} esp_run_dir;

/* Takes the folder if it is there: locks it and reads manifest.json. ESP_EUSAGE when another process
 * holds it, or files of a run are there without a manifest; ESP_EFORMAT for a manifest that is none, or was
 * changed. Writes nothing but the lock. */
esp_status esp_run_dir_open(esp_run_dir *d, const char *path);

/* The same without a lock, to look at a run that may be at work. Close it likewise. */
esp_status esp_run_dir_look(esp_run_dir *d, const char *path);

/* Makes the folder where it is not there yet, locks it, writes config.used and begins the events; once. */
esp_status esp_run_dir_make(esp_run_dir *d, const esp_config *c);
void esp_run_dir_close(esp_run_dir *d); /* safe twice and on {0} */

/* Whether a file or folder of that name is in it. */
bool esp_run_dir_has(const esp_run_dir *d, const char *name);

/* Removes it, a file or a folder; nothing there is no error. */
esp_status esp_run_dir_remove(const esp_run_dir *d, const char *name);

/* Writes a JSON file of the folder, whole or not at all. ESP_EIO. Rank 0. */
esp_status esp_run_dir_write(const esp_run_dir *d, const char *name, const json_t *json);

/* The record of a stage, NULL when there is none. Borrowed. */
json_t *esp_run_dir_record(const esp_run_dir *d, const char *stage);

/* Replaces the record of a stage (NULL: forgets it; taken over) and writes manifest.json. */
esp_status esp_run_dir_set_record(esp_run_dir *d, const char *stage, json_t *record);

/* Appends a line {"time", "seconds", "event", "stage", fields...} to events.jsonl; fields (may be NULL)
 * is taken over. */
void esp_run_dir_event(esp_run_dir *d, const char *event, const char *stage, json_t *fields);

/* ESP_EIO when there was no room for one of them: that was warned of, and work went on. */
esp_status esp_run_dir_events_whole(const esp_run_dir *d);

/* A number of a JSON file; null where it is not finite, which JSON has no word for. New reference. */
json_t *esp_json_real(double x);

/* Digest of a JSON value, whatever the order of its keys. */
void esp_json_digest(char hex[ESP_DIGEST_SIZE], const json_t *json);

#endif
