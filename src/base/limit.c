/* limit.c - the memory that a process may have, from all that may take it away. */
#include "espalier/limit.h"

#include <float.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "espalier/clock.h"
#include "espalier/mem.h"

#define MARGIN 0.9 /* of what is there; the rest is for all else that runs */
#define MIB    1048576.0
#define LARGE  ((size_t)1 << 20) /* bytes that are worth a look at any time */

enum { GROUP_SIZE = 1024 };

/* Who asks, and with how many others it shares. */
typedef struct asker {
    const char *root, *node; /* node: " of node NAME", "" where there is one */
    double own;              /* anonymous bytes of this process now          */
    int n_ranks;             /* of the node                                  */
    const char *groups;      /* [n_ranks, GROUP_SIZE] their memory cgroups   */
} asker;

/* A hierarchy of memory cgroups: where it is mounted, and its files. */
typedef struct hierarchy {
    const char *mount, *limits[2], *used, *cached[2];
} hierarchy;

static const hierarchy v2 = { "/sys/fs/cgroup",
                              { "memory.max", "memory.high" },
                              "memory.current",
                              { "inactive_file", "active_file" } };
static const hierarchy v1 = { "/sys/fs/cgroup/memory",
                              { "memory.limit_in_bytes", NULL },
                              "memory.usage_in_bytes",
                              { "total_inactive_file", "total_active_file" } };

/* ---- files of numbers -------------------------------------------------------------------------- */

/* The number behind a name that begins a line (NULL: the first of the file), -1 where there is none. */
static double number_of(const char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static double number_of(const char *name, const char *fmt, ...)
{
    char path[PATH_MAX], line[256];
    size_t n = name ? strlen(name) : 0;
    double value = -1;
    va_list args;
    FILE *f;

    va_start(args, fmt);
    vsnprintf(path, sizeof path, fmt, args);
    va_end(args);
    f = fopen(path, "r");
    while (f && value < 0 && fgets(line, sizeof line, f)) {
        if (n == 0 || (strncmp(line, name, n) == 0 && strchr(" \t", line[n]))) {
            value = sscanf(line + n, "%lf", &value) == 1 ? value : -1;
        }
        if (n == 0) {
            break; /* "max" */
        }
    }
    if (f) {
        fclose(f);
    }
    return value;
}

/* ---- bounds ------------------------------------------------------------------------------------ */

static void offer(esp_limit *l, double bytes, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Takes a limit that is less than those before. */
static void offer(esp_limit *l, double bytes, const char *fmt, ...)
{
    va_list args;

    if (bytes >= l->bytes) {
        return;
    }
    l->bytes = bytes > 0 ? bytes : 1;
    l->maps = false;
    va_start(args, fmt);
    vsnprintf(l->source, sizeof l->source, fmt, args);
    va_end(args);
}

static double share(const asker *a, double left, int n_sharers)
{
    return a->own + left / n_sharers;
}

static void offer_available(esp_limit *l, const asker *a)
{
    double kb = number_of("MemAvailable:", "%s/proc/meminfo", a->root);

    if (kb >= 0) {
        offer(l, share(a, kb * 1024, a->n_ranks), "MemAvailable of /proc/meminfo%s", a->node);
    }
}

/* Ranks of the node in a cgroup or below it. */
static int count_sharers(const asker *a, const char *group)
{
    size_t n = strlen(group);
    int count = 0;

    for (int r = 0; a->groups && r < a->n_ranks; r++) {
        const char *other = a->groups + (size_t)r * GROUP_SIZE;

        count += strncmp(other, group, n) == 0 && (other[n] == '/' || other[n] == '\0');
    }
    return count > 0 ? count : 1;
}

/* One cgroup: what is used but for cached files, which the system gives up first. */
static void offer_group(esp_limit *l, const asker *a, const hierarchy *h, const char *group)
{
    double used = number_of(NULL, "%s%s%s/%s", a->root, h->mount, group, h->used);

    for (int i = 0; i < 2 && used >= 0; i++) {
        double cached = number_of(h->cached[i], "%s%s%s/memory.stat", a->root, h->mount, group);

        used -= cached > 0 ? cached : 0;
    }
    for (int i = 0; i < 2 && h->limits[i] && used >= 0; i++) {
        double most = number_of(NULL, "%s%s%s/%s", a->root, h->mount, group, h->limits[i]);

        if (most >= 0) {
            offer(l, share(a, most - used, count_sharers(a, group)), "cgroup %s%s %s%s", h->mount,
                  group, h->limits[i], a->node);
        }
    }
}

/* The memory cgroup of this process, "" where it has none. */
static const hierarchy *own_group(char group[GROUP_SIZE], const char *root)
{
    char *path = esp_format("%s/proc/self/cgroup", root), line[GROUP_SIZE + 256];
    const hierarchy *h = &v2;
    FILE *f = fopen(path, "r");

    *group = '\0';
    while (f && fgets(line, sizeof line, f)) {
        char *controllers = strchr(line, ':'),
             *at = controllers ? strchr(controllers + 1, ':') : NULL;
        bool memory;

        if (!at) {
            continue;
        }
        *at++ = '\0';
        memory = strstr(controllers, "memory") != NULL; /* as v1 names it; v2 names none */
        if (memory || (h == &v2 && strcmp(controllers, ":") == 0)) {
            h = memory ? &v1 : &v2;
            snprintf(group, GROUP_SIZE, "%.*s", (int)strcspn(at, "\n"), at);
        }
    }
    if (f) {
        fclose(f);
    }
    free(path);
    return h;
}

/* This process's group and all above it. */
static void offer_groups(esp_limit *l, const asker *a)
{
    char group[GROUP_SIZE];
    const hierarchy *h = own_group(group, a->root);

    for (char *last = group; last;) {
        if (strcmp(group, "/") == 0) {
            *group = '\0';
        }
        offer_group(l, a, h, group);
        last = strrchr(group, '/');
        if (last) {
            *last = '\0';
        }
    }
}

static double number_in(const char *variable)
{
    const char *text = getenv(variable);

    return text ? strtod(text, NULL) : 0;
}

/* Megabytes, of a node or of each of its CPUs; 0 of a node: all that it has. */
static void offer_slurm(esp_limit *l, const asker *a)
{
    double node = number_in("SLURM_MEM_PER_NODE"), cpu = number_in("SLURM_MEM_PER_CPU");
    double cpus = number_in("SLURM_CPUS_ON_NODE");

    cpus = cpus > 0 ? cpus : number_in("SLURM_JOB_CPUS_PER_NODE"); /* "8(x2),4" */
    if (node > 0) {
        offer(l, node * MIB / a->n_ranks, "SLURM_MEM_PER_NODE%s", a->node);
    } else if (cpu > 0 && cpus > 0) {
        offer(l, cpu * cpus * MIB / a->n_ranks, "SLURM_MEM_PER_CPU%s", a->node);
    }
}

/* What a limit of the process leaves beside what it counts already. */
static void offer_process(esp_limit *l, const asker *a, int resource, const char *counted,
                          const char *name, bool maps)
{
    double kb = number_of(counted, "%s/proc/self/status", a->root);
    struct rlimit r;

    if (getrlimit(resource, &r) == 0 && r.rlim_cur != RLIM_INFINITY && kb >= 0) {
        double before = l->bytes;

        offer(l, share(a, (double)r.rlim_cur - kb * 1024, 1), "%s%s", name, a->node);
        l->maps = l->bytes < before ? maps : l->maps;
    }
}

static void offer_shared(esp_limit *l, const asker *a)
{
    *l = (esp_limit){ .bytes = DBL_MAX };
    offer_available(l, a);
    offer_groups(l, a);
    offer_slurm(l, a);
}

/* ---- found ------------------------------------------------------------------------------------- */

void esp_limit_of_node(esp_limit *l, const char *root)
{
    offer_shared(l, &(asker){ root, "", (double)esp_anonymous_resident(), 1, NULL });
}

static void node_name(char *text, size_t n)
{
    char host[256] = "";

    gethostname(host, sizeof host - 1);
    snprintf(text, n, " of node %s", host);
}

void esp_limit_find(esp_limit *l, const char *root, MPI_Comm world)
{
    struct {
        double bytes;
        int rank;
    } least;
    char group[GROUP_SIZE] = "", *groups, node[300] = "";
    asker a = { .root = root, .node = node, .own = (double)esp_anonymous_resident() };
    MPI_Comm comm;
    int size;

    ESP_MPI(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm));
    ESP_MPI(MPI_Comm_size(comm, &a.n_ranks));
    ESP_MPI(MPI_Comm_size(world, &size));
    if (a.n_ranks < size) {
        node_name(node, sizeof node);
    }
    own_group(group, root);
    groups = esp_calloc((size_t)a.n_ranks, GROUP_SIZE);
    ESP_MPI(MPI_Allgather(group, GROUP_SIZE, MPI_CHAR, groups, GROUP_SIZE, MPI_CHAR, comm));
    ESP_MPI(MPI_Comm_free(&comm));
    a.groups = groups;
    offer_shared(l, &a);
    offer_process(l, &a, RLIMIT_AS, "VmSize:", "RLIMIT_AS (ulimit -v)", true);
    offer_process(l, &a, RLIMIT_DATA, "VmData:", "RLIMIT_DATA (ulimit -d)", false);
    free(groups);
    l->bytes = l->bytes < DBL_MAX ? l->bytes * MARGIN : 0;
    least.bytes = l->bytes;
    ESP_MPI(MPI_Comm_rank(world, &least.rank));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_DOUBLE_INT, MPI_MINLOC, world));
    ESP_MPI(MPI_Bcast(l, sizeof *l, MPI_BYTE, least.rank, world));
}

/* ---- held -------------------------------------------------------------------------------------- */

static struct {
    const esp_limit *limit;
    double looked; /* esp_now() */
} hold;

void esp_limit_hold(const esp_limit *l)
{
    hold.limit = l && l->bytes > 0 ? l : NULL;
    hold.looked = 0;
}

static esp_status too_much(const char *what, double bytes, const esp_limit *l)
{
    bool set = strcmp(l->source, "memory_limit") == 0;
    double unit = l->bytes < 1024 ? 1 : l->bytes < 10 * MIB ? 1024 : MIB;

    return esp_fail(ESP_EUSAGE,
                    "%s: what is read of it needs more than %.0f MiB per rank, the limit is %.*f "
                    "%s by %s: give %sfewer or shorter samples, a smaller file, or fewer ranks per "
                    "node",
                    what, bytes / MIB, unit == 1024 ? 1 : 0, l->bytes / unit,
                    unit == MIB    ? "MiB"
                    : unit == 1024 ? "KiB"
                                   : "bytes",
                    l->source, set ? "a higher memory_limit, " : "");
}

esp_status esp_limit_check(size_t more, const char *what)
{
    double now, bytes;

    if (!hold.limit || (more < LARGE && (now = esp_now()) - hold.looked < 1e-3)) {
        return ESP_OK;
    }
    hold.looked = esp_now();
    bytes = (double)esp_anonymous_resident() + (double)more;
    if (bytes <= hold.limit->bytes) {
        return ESP_OK;
    }
    return too_much(what, bytes, hold.limit);
}
