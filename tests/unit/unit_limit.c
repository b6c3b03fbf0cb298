/* unit_limit.c - where the limit of the memory of a rank comes from. */
#include <sys/resource.h>
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/limit.h"
#include "test.h"

#define MIB 1048576.0

/* A tree with the files of /proc and /sys that a machine would have. */
static char *root;

static void put(const char *name, const char *text)
{
    char *path = esp_path(root, name), *dir = esp_strdup(path);

    *strrchr(dir, '/') = '\0';
    CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_write(path, text, strlen(text)), ESP_OK);
    free(dir);
    free(path);
}

static void begin(const char *name, const char *groups)
{
    root = esp_test_dir(name);
    unsetenv("SLURM_MEM_PER_NODE");
    unsetenv("SLURM_MEM_PER_CPU");
    unsetenv("SLURM_CPUS_ON_NODE");
    unsetenv("SLURM_JOB_CPUS_PER_NODE");
    put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:        102400 kB\n"
                        "MemAvailable:    8388608 kB\n");
    put("proc/self/cgroup", groups);
    put("proc/self/status", "VmSize:\t  204800 kB\nVmData:\t  102400 kB\nRssAnon:\t 4096 kB\n");
}

static void end(void)
{
    free(root);
    root = NULL;
}

/* The limit is what is left beside what this process has, less a tenth. */
static void check(double left_mib, const char *source)
{
    esp_limit l;
    double own = (double)esp_anonymous_resident();

    esp_limit_find(&l, root, MPI_COMM_WORLD);
    CU_ASSERT_DOUBLE_EQUAL(l.bytes / MIB, 0.9 * (left_mib + own / MIB), 2);
    CU_ASSERT_STRING_EQUAL(l.source, source);
    if (strcmp(l.source, source) != 0) {
        printf("  %s, not %s\n", l.source, source);
    }
    esp_limit_of_node(&l, root);
    CU_ASSERT(l.bytes > 0);
}

static void test_available(void)
{
    begin("available", "0::/job\n");
    check(8192, "MemAvailable of /proc/meminfo");
    end();
}

/* A limit above the own group counts, too; cached files are left. */
static void test_cgroup_v2(void)
{
    begin("v2", "0::/slurm/job/step\n");
    put("sys/fs/cgroup/slurm/job/step/memory.max", "max\n");
    put("sys/fs/cgroup/slurm/job/step/memory.current", "1073741824\n");
    put("sys/fs/cgroup/slurm/job/memory.max", "4294967296\n");
    put("sys/fs/cgroup/slurm/job/memory.high", "max\n");
    put("sys/fs/cgroup/slurm/job/memory.current", "3221225472\n");
    put("sys/fs/cgroup/slurm/job/memory.stat",
        "anon 1073741824\nfile 2147483648\ninactive_file 1073741824\nactive_file 536870912\n");
    check(4096 - (3072 - 1536), "cgroup /sys/fs/cgroup/slurm/job memory.max");
    put("sys/fs/cgroup/slurm/job/step/memory.high", "2147483648\n");
    check(1024, "cgroup /sys/fs/cgroup/slurm/job/step memory.high");
    put("sys/fs/cgroup/memory.max", "1000000000\n");
    put("sys/fs/cgroup/memory.current", "475712000\n");
    check(500, "cgroup /sys/fs/cgroup memory.max");
    end();
}

static void test_cgroup_v1(void)
{
    begin("v1", "5:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/z\n0::/z\n");
    put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "1048576\n");
    put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2147483648\n");
    put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1610612736\n");
    put("sys/fs/cgroup/memory/a/memory.stat",
        "inactive_file 0\ntotal_inactive_file 536870912\ntotal_active_file 0\n");
    put("sys/fs/cgroup/z/memory.max", "1\n"); /* memory is no matter of v2 here */
    put("sys/fs/cgroup/z/memory.current", "1\n");
    check(1024, "cgroup /sys/fs/cgroup/memory/a memory.limit_in_bytes");
    end();
}

/* In a container the group has no folder of that name, but its limit is at the top. */
static void test_namespace(void)
{
    begin("namespace", "0::/\n");
    put("sys/fs/cgroup/memory.max", "3221225472\n");
    put("sys/fs/cgroup/memory.current", "1073741824\n");
    check(2048, "cgroup /sys/fs/cgroup memory.max");
    end();
}

/* What a group has already used up leaves nothing; that is a limit, not none. */
static void test_nothing_left(void)
{
    esp_limit l;

    begin("nothing", "0::/\n");
    put("sys/fs/cgroup/memory.max", "1048576\n");
    put("sys/fs/cgroup/memory.current", "1099511627776\n");
    esp_limit_find(&l, root, MPI_COMM_WORLD);
    CU_ASSERT(l.bytes > 0 && l.bytes < MIB);
    end();
}

static void test_slurm(void)
{
    esp_limit l;

    begin("slurm", "0::/\n");
    setenv("SLURM_MEM_PER_NODE", "1000", 1);
    esp_limit_find(&l, root, MPI_COMM_WORLD);
    CU_ASSERT_DOUBLE_EQUAL(l.bytes / MIB, 900, 1e-9);
    CU_ASSERT_STRING_EQUAL(l.source, "SLURM_MEM_PER_NODE");
    setenv("SLURM_MEM_PER_NODE", "0", 1); /* all of the node */
    check(8192, "MemAvailable of /proc/meminfo");
    setenv("SLURM_MEM_PER_CPU", "250", 1);
    setenv("SLURM_JOB_CPUS_PER_NODE", "8(x2),4", 1);
    esp_limit_find(&l, root, MPI_COMM_WORLD);
    CU_ASSERT_DOUBLE_EQUAL(l.bytes / MIB, 1800, 1e-9);
    setenv("SLURM_CPUS_ON_NODE", "2", 1);
    esp_limit_find(&l, root, MPI_COMM_WORLD);
    CU_ASSERT_DOUBLE_EQUAL(l.bytes / MIB, 450, 1e-9);
    CU_ASSERT_STRING_EQUAL(l.source, "SLURM_MEM_PER_CPU");
    end();
    begin("slurm", "0::/\n"); /* clears the environment */
    end();
}

static void test_rlimit(void)
{
    struct rlimit old, r;

#ifdef __SANITIZE_ADDRESS__
    printf("skipped: the sanitizer itself needs more than a limit of data lets it have\n");
    return;
#endif
    begin("rlimit", "0::/\n");
    getrlimit(RLIMIT_DATA, &old);
    r = old;
    r.rlim_cur = (rlim_t)5 << 30;
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_DATA, &r), 0);
    check(5120 - 100, "RLIMIT_DATA (ulimit -d)");
    setrlimit(RLIMIT_DATA, &old);
    check(8192, "MemAvailable of /proc/meminfo");
    end();
}

static void test_hold(void)
{
    esp_limit l = { .bytes = (double)esp_anonymous_resident() + 64 * MIB, .source = "here" };
    esp_limit set = { .bytes = 1536, .source = "memory_limit" };
    char *text, *path;
    size_t n;

    CU_ASSERT_EQUAL(esp_limit_check((size_t)1 << 40, "file"), ESP_OK);
    esp_limit_hold(&l);
    CU_ASSERT_EQUAL(esp_limit_check(32 << 20, "file"), ESP_OK);
    CU_ASSERT_EQUAL(esp_limit_check(128 << 20, "file"), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "file: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "by here: give fewer"));
    esp_error_clear();
    esp_limit_hold(&set);
    CU_ASSERT_EQUAL(esp_limit_check(128 << 20, "file"), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "the limit is 1.5 KiB by memory_limit: "
                                                       "give a higher memory_limit, fewer"));
    esp_error_clear();
    esp_limit_hold(&l);
    begin("hold", "");
    path = esp_path(root, "sparse");
    put("sparse", "x");
    CU_ASSERT_EQUAL(truncate(path, (off_t)1 << 28), 0);
    CU_ASSERT_EQUAL(esp_file_read(&text, &n, path), ESP_EUSAGE); /* before a byte of it is read */
    esp_limit_hold(NULL);
    CU_ASSERT_EQUAL(esp_limit_check((size_t)1 << 40, "file"), ESP_OK);
    esp_error_clear();
    free(path);
    end();
}

ESP_TEST_MAIN("limit", { "MemAvailable", test_available }, { "cgroup v2", test_cgroup_v2 },
              { "cgroup v1", test_cgroup_v1 }, { "cgroup namespace", test_namespace },
              { "nothing left", test_nothing_left }, { "Slurm", test_slurm },
              { "limits of the process", test_rlimit }, { "held while reading", test_hold })
