/* lock_impl.h - one run at a time in a folder, also where the file system has no locks.
 *
 * The lock of the system on DIR/.lock goes with its process in whatever way that ends. Where there is none
 * (Lustre without -o flock, NFS without lockd), DIR/.lock.owner says who works there: host, job, process and
 * time. One process only makes it (O_EXCL), and removes it at its end. One that was left behind is taken over
 * when its process is surely gone; where that cannot be known, the user decides.
 */
#ifndef ESPALIER_LOCK_IMPL_H
#define ESPALIER_LOCK_IMPL_H

#include "espalier/status.h"

typedef struct esp_lock {
    int fd;      /* of .lock, -1: not held                           */
    char *owner; /* path of .lock.owner, NULL: not needed; owned     */
    char *text;  /* what this process has written there; owned       */
} esp_lock;

/* Takes the folder, which is there. ESP_EUSAGE when another process holds it or may hold it, ESP_EIO; it is
 * not held then. Warns where there are no locks, and when something is taken over. Local. */
esp_status esp_lock_take(esp_lock *l, const char *dir);
void esp_lock_release(esp_lock *l); /* safe twice */

#endif
