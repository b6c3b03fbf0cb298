/* unit_lock.c - one run at a time in a folder, with locks of the system and without. */
#include "run/lock_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "espalier/file.h"
#include "test.h"

static int flock_error; /* errno of flock, in place of the C library's; 0: the system's */

int flock(int fd, int operation)
{
    if (flock_error) {
        errno = flock_error;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}

/* In the race, between the look at who holds the folder and the takeover, a time of its own for each. */
static bool racing;

int kill(pid_t process, int number)
{
    if (racing) {
        usleep((useconds_t)(getpid() % 6) * 3000);
    }
    return (int)syscall(SYS_kill, process, number);
}

static char *dir, *owner;

static void begin(int error)
{
    esp_error_clear();
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
    flock_error = error;
    dir = esp_test_fresh_dir("lock");
    owner = esp_path(dir, ".lock.owner");
}

static void end(void)
{
    flock_error = 0;
    esp_error_clear();
    free(owner);
    free(dir);
}

static bool says(const char *text)
{
    bool yes = strstr(esp_error_message(), text) != NULL;

    if (!yes) {
        printf("  said: %s\n  not:  %s\n", esp_error_message(), text);
    }
    return yes;
}

/* What a run leaves that is killed while it holds the folder. */
static void leave_behind(void)
{
    pid_t child = fork();
    esp_lock l;

    if (child == 0) {
        if (esp_lock_take(&l, dir) == ESP_OK) {
            raise(SIGKILL);
        }
        _exit(1);
    }
    waitpid(child, NULL, 0);
    CU_ASSERT_EQUAL(esp_file_exists(owner), flock_error != 0);
}

/* Changes one word of the file; value is taken over. */
static void change(const char *key, json_t *value)
{
    json_t *who = json_load_file(owner, 0, NULL);

    CU_ASSERT_PTR_NOT_NULL_FATAL(who);
    CU_ASSERT_PTR_NOT_NULL(json_object_get(who, key));
    json_object_set_new(who, key, value);
    CU_ASSERT_EQUAL(json_dump_file(who, owner, 0), 0);
    json_decref(who);
}

static void test_locks(void)
{
    esp_lock a, b;

    begin(0);
    CU_ASSERT_EQUAL(esp_lock_take(&a, dir), ESP_OK);
    CU_ASSERT_FALSE(esp_file_exists(owner));
    CU_ASSERT_EQUAL(esp_lock_take(&b, dir), ESP_EUSAGE);
    CU_ASSERT(says("another run works in this run_dir"));
    esp_lock_release(&b);
    esp_lock_release(&a);
    esp_lock_release(&a);
    leave_behind();
    CU_ASSERT_EQUAL(esp_lock_take(&b, dir), ESP_OK);
    esp_lock_release(&b);
    end();
}

static void test_no_locks(void)
{
    static const int errors[] = { ENOSYS, ENOLCK, EOPNOTSUPP, ENOTSUP, EINVAL };
    char host[256] = "", *process = esp_format("process %d", (int)getpid());
    esp_lock a, b;

    gethostname(host, sizeof host - 1);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        begin(errors[i]);
        setenv("SLURM_JOB_ID", "4711", 1);
        CU_ASSERT_EQUAL(esp_lock_take(&a, dir), ESP_OK);
        CU_ASSERT(esp_file_exists(owner));
        CU_ASSERT_EQUAL(esp_lock_take(&b, dir), ESP_EUSAGE);
        CU_ASSERT(says(host) && says("job 4711") && says(process) && says("since 20") &&
                  says(owner));
        flock_error = 0; /* here the second has locks */
        CU_ASSERT_EQUAL(esp_lock_take(&b, dir), ESP_EUSAGE);
        flock_error = errors[i];
        esp_lock_release(&a);
        CU_ASSERT_FALSE(esp_file_exists(owner));
        CU_ASSERT_EQUAL(esp_lock_take(&b, dir), ESP_OK);
        esp_lock_release(&b);
        end();
    }
    begin(EIO);
    CU_ASSERT_EQUAL(esp_lock_take(&a, dir), ESP_EIO);
    end();
    free(process);
}

static void expect_taken_over(void)
{
    esp_lock l;

    CU_ASSERT_EQUAL(esp_lock_take(&l, dir), ESP_OK);
    esp_lock_release(&l);
    CU_ASSERT_FALSE(esp_file_exists(owner));
}

static void expect_refused(void)
{
    esp_lock l;

    CU_ASSERT_EQUAL(esp_lock_take(&l, dir), ESP_EUSAGE);
    CU_ASSERT(says(owner));
    CU_ASSERT(esp_file_exists(owner));
    unlink(owner); /* the remedy */
    expect_taken_over();
}

/* Whose process is gone, and whose may not be. */
static void test_left_behind(void)
{
    begin(ENOLCK);
    leave_behind();
    expect_taken_over();
    leave_behind();
    flock_error = 0;
    expect_taken_over();
    flock_error = ENOLCK;

    leave_behind(); /* the number of a process that began at another time */
    change("process", json_integer(getpid()));
    expect_taken_over();
    leave_behind();
    change("boot", json_string("before"));
    expect_taken_over();

    leave_behind();
    change("host", json_string("elsewhere"));
    expect_refused();
    leave_behind();
    change("namespace", json_string("pid:[1]"));
    expect_refused();
    leave_behind();
    CU_ASSERT_EQUAL(truncate(owner, 0), 0);
    expect_refused();
    leave_behind();
    CU_ASSERT_EQUAL(truncate(owner, 30), 0);
    expect_refused();
    end();
}

/* A job that the batch system starts again has ended before, on whatever host. */
static void test_started_again(void)
{
    begin(ENOSYS);
    setenv("SLURM_JOB_ID", "12", 1);
    leave_behind();
    change("host", json_string("elsewhere"));
    setenv("SLURM_RESTART_COUNT", "1", 1);
    expect_taken_over();
    leave_behind();
    change("host", json_string("elsewhere"));
    expect_refused(); /* another step of the same job */
    leave_behind();
    change("host", json_string("elsewhere"));
    setenv("SLURM_JOB_ID", "13", 1);
    setenv("SLURM_RESTART_COUNT", "2", 1);
    expect_refused();
    end();
}

/* Takes the folder when `go` ends, says whether it could, holds it until `stop` ends, and is gone. */
static void contend(int go, int result, int stop)
{
    esp_lock l;
    char byte;
    bool taken;

    if (read(go, &byte, 1) < 0) {
        _exit(1);
    }
    taken = esp_lock_take(&l, dir) == ESP_OK;
    byte = taken ? 'y' : 'n';
    if (write(result, &byte, 1) != 1 || read(stop, &byte, 1) < 0) {
        _exit(1);
    }
    _exit(0);
}

/* Of many that find it left behind at once, one takes it. */
static void test_race(void)
{
    enum { N = 12, ROUNDS = 12 };

    begin(ENOLCK);
    racing = true;
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], result[2], stop[2], taken = 0;
        pid_t child[N];

        leave_behind();
        CU_ASSERT_EQUAL_FATAL(pipe(go) + pipe(result) + pipe(stop), 0);
        for (int i = 0; i < N; i++) {
            child[i] = fork();
            if (child[i] == 0) {
                close(go[1]);
                close(stop[1]);
                contend(go[0], result[1], stop[0]);
            }
        }
        close(go[0]);
        close(go[1]);
        for (int i = 0; i < N; i++) {
            char byte = 0;

            CU_ASSERT_EQUAL(read(result[0], &byte, 1), 1);
            taken += byte == 'y';
        }
        CU_ASSERT_EQUAL(taken, 1);
        close(stop[0]);
        close(stop[1]);
        close(result[0]);
        close(result[1]);
        for (int i = 0; i < N; i++) {
            waitpid(child[i], NULL, 0);
        }
        unlink(owner); /* of the last round, gone with its process */
    }
    racing = false;
    end();
}

ESP_TEST_MAIN("lock", { "locks", test_locks }, { "no locks", test_no_locks },
              { "left behind", test_left_behind }, { "started again", test_started_again },
              { "race", test_race })
