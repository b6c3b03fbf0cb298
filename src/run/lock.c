/* lock.c - the system's lock of a folder, and the file that stands in for it. */
#include "lock_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "espalier/clock.h"
#include "espalier/file.h"
#include "espalier/io.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "run_dir_impl.h"

/* ---- who ---- */

/* First line of a file of the system that has no size, "" where there is none. */
static void system_line(char *line, size_t room, const char *path)
{
    FILE *f = fopen(path, "r");

    if (!f || !fgets(line, (int)room, f)) {
        line[0] = '\0';
    }
    line[strcspn(line, "\n")] = '\0';
    if (f) {
        fclose(f);
    }
}

/* When a process began, in ticks since the boot: field 22 of its stat. 0 where that cannot be known. */
static json_int_t beginning(json_int_t process)
{
    char *path = esp_format("/proc/%lld/stat", (long long)process), line[1024];
    char *at;
    long long ticks = 0;

    system_line(line, sizeof line, path);
    free(path);
    at = strrchr(line, ')'); /* of the name, which may have spaces */
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at && sscanf(at, "%lld", &ticks) == 1 ? ticks : 0;
}

static char *this_job(void)
{
    static const char *const names[] = { "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID",
                                         "FLUX_JOB_ID" };
    const char *cluster = getenv("SLURM_CLUSTER_NAME");

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *id = getenv(names[i]);

        if (id && *id) {
            return i == 0 && cluster ? esp_format("%s of %s", id, cluster) : esp_strdup(id);
        }
    }
    return esp_strdup("none");
}

static json_t *this_process(void)
{
    const char *restart = getenv("SLURM_RESTART_COUNT");
    char host[HOST_NAME_MAX + 1] = "", boot[64], space[64] = "", now[ESP_TIME_SIZE];
    char *job = this_job();
    json_t *who;

    gethostname(host, sizeof host - 1);
    system_line(boot, sizeof boot, "/proc/sys/kernel/random/boot_id");
    if (readlink("/proc/self/ns/pid", space, sizeof space - 1) < 0) {
        space[0] = '\0';
    }
    esp_time_text(now);
    who = json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:s, s:s}", "host", host, "job", job, "process",
                    (json_int_t)getpid(), "time", now, "restart",
                    (json_int_t)(restart ? strtol(restart, NULL, 10) : 0), "began",
                    beginning(getpid()), "boot", boot, "namespace", space);
    ESP_REQUIRE(who);
    free(job);
    return who;
}

static const char *text_of(const json_t *who, const char *key)
{
    const char *text = json_string_value(json_object_get(who, key));

    return text ? text : "";
}

static json_int_t number_of(const json_t *who, const char *key)
{
    return json_integer_value(json_object_get(who, key));
}

static bool same_text(const json_t *a, const json_t *b, const char *key)
{
    return strcmp(text_of(a, key), text_of(b, key)) == 0;
}

/* Whether the process that wrote `then` surely works no more: its job was started again, or its host, or this
 * host has no such process. */
static bool is_gone(const json_t *then, const json_t *now)
{
    json_int_t process = number_of(then, "process");

    if (strcmp(text_of(then, "job"), "none") != 0 && same_text(then, now, "job") &&
        number_of(now, "restart") > number_of(then, "restart")) {
        return true;
    }
    if (!same_text(then, now, "host") || !*text_of(then, "boot") || process <= 0 ||
        process > INT_MAX) {
        return false;
    }
    if (!same_text(then, now, "boot")) {
        return true;
    }
    return same_text(then, now, "namespace") && ((kill((pid_t)process, 0) != 0 && errno == ESRCH) ||
                                                 beginning(process) != number_of(then, "began"));
}

/* ---- the file that says who ---- */

/* Makes the file, which must not be there; *there when it is. */
static esp_status make_file(bool *there, const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), error, late;

    *there = fd < 0 && errno == EEXIST;
    if (fd < 0) {
        return *there ? ESP_OK : esp_fail(ESP_EIO, "%s: cannot create: %s", path, strerror(errno));
    }
    error = esp_write_at(fd, text, strlen(text), 0);
    error = error ? error : esp_sync(fd);
    late = esp_close(fd);
    error = error ? error : late;
    if (error) {
        unlink(path);
        return esp_write_failed(path, strlen(text), error);
    }
    return ESP_OK;
}

/* NULL when it is not there or says nothing. */
static json_t *read_owner(const char *path)
{
    char *text;
    size_t n;
    json_t *who;

    if (esp_file_read(&text, &n, path) != ESP_OK) {
        esp_error_clear();
        return NULL;
    }
    who = json_loadb(text, n, 0, NULL);
    free(text);
    return who;
}

static esp_status refuse(const char *dir, const char *file, const json_t *who)
{
    if (!json_is_object(who)) {
        return esp_fail(
            ESP_EUSAGE,
            "%s: another run begins in this run_dir, or ended while it began: run again; "
            "if no run works there, remove %s first",
            dir, file);
    }
    return esp_fail(
        ESP_EUSAGE,
        "%s: another run works in this run_dir: host %s, job %s, process %lld, since %s; "
        "wait for it or use another; if that process is surely gone, remove %s",
        dir, text_of(who, "host"), text_of(who, "job"), (long long)number_of(who, "process"),
        text_of(who, "time"), file);
}

/* Of several that find the same owner gone, one makes the second file; while it is there, nobody else changes
 * the first. */
static esp_status take_over(const esp_lock *l, const char *dir, const json_t *gone)
{
    char *next = esp_format("%s.next", l->owner);
    bool there;
    json_t *who = NULL;
    esp_status st = make_file(&there, next, l->text);

    if (there) {
        who = read_owner(next);
        st = refuse(dir, next, who);
    } else if (st == ESP_OK) {
        who = read_owner(l->owner);
        if (!json_equal(who, gone)) {
            st = refuse(dir, l->owner, who);
        } else if (rename(next, l->owner) != 0) {
            st = esp_fail(ESP_EIO, "%s: cannot rename to %s: %s", next, l->owner, strerror(errno));
        }
        if (st != ESP_OK) {
            unlink(next);
        }
    }
    json_decref(who);
    free(next);
    return st;
}

static esp_status take_owner(esp_lock *l, const char *dir)
{
    json_t *now = this_process(), *then = NULL;
    bool there;
    esp_status st;

    l->text = json_dumps(now, JSON_COMPACT);
    ESP_REQUIRE(l->text);
    st = make_file(&there, l->owner, l->text);
    if (there) {
        then = read_owner(l->owner);
        st = json_is_object(then) && is_gone(then, now) ? take_over(l, dir, then)
                                                        : refuse(dir, l->owner, then);
        if (st == ESP_OK) {
            esp_warn(
                "%s: taken over from a run that is gone: host %s, job %s, process %lld, since %s",
                dir, text_of(then, "host"), text_of(then, "job"),
                (long long)number_of(then, "process"), text_of(then, "time"));
        }
    }
    json_decref(then);
    json_decref(now);
    return st;
}

/* ---- the lock ---- */

/* 0, or the errno of why the system does not lock it. */
static int try_lock(int fd)
{
    int tries = 0;

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EINTR || ++tries > 100) {
            return errno;
        }
    }
    return 0;
}

static bool has_no_locks(int error)
{
    return error == ENOSYS || error == ENOLCK || error == EOPNOTSUPP || error == ENOTSUP ||
           error == EINVAL;
}

static esp_status lock_folder(esp_lock *l, const char *dir, const char *path)
{
    int error = try_lock(l->fd);

    if (error == EWOULDBLOCK) {
        return esp_fail(ESP_EUSAGE,
                        "%s: another run works in this run_dir: wait for it or use another", dir);
    }
    if (error && !has_no_locks(error)) {
        return esp_fail(ESP_EIO, "%s: cannot lock: %s", path, strerror(error));
    }
    l->owner = esp_format("%s.owner", path);
    if (error) {
        esp_warn("%s: the file system has no locks (%s): %s keeps other runs out of this run_dir",
                 dir, strerror(error), l->owner);
    } else if (!esp_file_exists(l->owner)) { /* else from where there were no locks */
        free(l->owner);
        l->owner = NULL;
    }
    return l->owner ? take_owner(l, dir) : ESP_OK;
}

static void forget(esp_lock *l)
{
    if (l->fd >= 0) {
        close(l->fd);
    }
    free(l->owner);
    free(l->text);
    *l = (esp_lock){ .fd = -1 };
}

esp_status esp_lock_take(esp_lock *l, const char *dir)
{
    char *path = esp_path(dir, ".lock");
    esp_status st;

    *l = (esp_lock){ .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) };
    st = l->fd < 0 ? esp_fail(ESP_EUSAGE, "%s: cannot open: %s", path, strerror(errno))
                   : lock_folder(l, dir, path);
    if (st != ESP_OK) {
        forget(l);
    }
    free(path);
    return st;
}

void esp_lock_release(esp_lock *l)
{
    if (l->owner) {
        json_t *who = read_owner(l->owner), *own = json_loads(l->text, 0, NULL);

        if (json_equal(who, own)) { /* not when the user has given it to another run */
            unlink(l->owner);
        }
        json_decref(who);
        json_decref(own);
    }
    forget(l);
}
