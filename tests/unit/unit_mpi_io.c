/* unit_mpi_io.c - hints of MPI-IO: what is taken, what is refused, and what MPI is given. */
#include "espalier/mpi_io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/file.h"
#include "test.h"

static void check_refused(const char *hints, const char *says)
{
    CU_ASSERT_EQUAL(esp_hints_check(hints), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), says));
    esp_error_clear();
}

static void test_refused(void)
{
    char longest[MPI_MAX_INFO_KEY + 3];

    check_refused("cb_nodes", "\"cb_nodes\" is not key=value");
    check_refused("a=1;;b=2", "\"\" is not key=value");
    check_refused("a=1;=2", "\"=2\" is not key=value");
    check_refused("a=", "\"a=\" is not key=value");
    check_refused("a=1;b=2;a=3", "\"a\" is there twice");
    check_refused("a=1;b=2; a =3", "\"a\" is there twice");
    check_refused("a=1; b", "\" b\" is not key=value");
    check_refused("a=\nb", "control characters");
    check_refused("a=1\n", "control characters");
    memset(longest, 'k', sizeof longest);
    memcpy(longest + MPI_MAX_INFO_KEY, "=1", 3);
    check_refused(longest, "longer than this MPI takes");
    CU_ASSERT_EQUAL(esp_hints_check(longest + 1), ESP_OK);
}

/* OMPIO divides by cb_nodes, without looking whether it is 0. */
static void test_numbers(void)
{
    check_refused("cb_nodes=0", "cb_nodes=0: must be a whole number above 0");
    check_refused("x=1; cb_nodes=0", "cb_nodes=0: must be");
    check_refused("cb_nodes =0", "cb_nodes=0: must be");
    check_refused("striping_factor=-5", "striping_factor=-5: must be");
    check_refused("striping_unit=1MB", "striping_unit=1MB: must be");
    check_refused("cb_buffer_size=99999999999", "at most 2147483647");
    check_refused("CB_NODES=0", "\"CB_NODES\": MPI knows it as cb_nodes");
    CU_ASSERT_EQUAL(esp_hints_check("cb_nodes=1;romio_cb_write=enable;cb_nodes_of_mine=0"), ESP_OK);
}

static void check_value(MPI_Info info, const char *key, const char *want)
{
    char value[MPI_MAX_INFO_VAL + 1] = "";
    int found;

    MPI_Info_get(info, key, MPI_MAX_INFO_VAL, value, &found);
    CU_ASSERT(found);
    CU_ASSERT_STRING_EQUAL(value, want);
}

static void test_info(void)
{
    const char *hints = " striping_factor=8; cb_config_list = *:1,x=y ;\ta=b c";
    MPI_Info info;
    int n;

    CU_ASSERT_EQUAL(esp_hints_check(hints), ESP_OK);
    info = esp_hints_info(hints);
    MPI_Info_get_nkeys(info, &n);
    CU_ASSERT_EQUAL(n, 3);
    check_value(info, "striping_factor", "8");
    check_value(info, "cb_config_list", "*:1,x=y");
    check_value(info, "a", "b c");
    esp_hints_free(&info);
    CU_ASSERT(esp_hints_check("") == ESP_OK && esp_hints_check(NULL) == ESP_OK);
    CU_ASSERT(esp_hints_info("") == MPI_INFO_NULL && esp_hints_info(NULL) == MPI_INFO_NULL);
}

/* Said before MPI is asked, which gives no reason. access() goes by the real user, whom a folder of mode 0555
 * may belong to if that is not root. */
static void test_create(void)
{
    char *dir = esp_test_fresh_dir("made"), *path = esp_path(dir, "file");
    uid_t user = getuid();

    CU_ASSERT_EQUAL(esp_mpi_io_create(path, ""), ESP_OK);
    CU_ASSERT(esp_file_exists(path));
    CU_ASSERT_EQUAL(chmod(dir, 0555), 0);
    CU_ASSERT(user != 0 || setreuid(65534, (uid_t)-1) == 0);
    CU_ASSERT_EQUAL(esp_mpi_io_create(path, ""), ESP_EUSAGE);
    CU_ASSERT(user != 0 || setreuid(user, (uid_t)-1) == 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), "cannot write in"));
    esp_error_clear();
    CU_ASSERT_EQUAL(chmod(dir, 0755), 0);
    free(path);
    free(dir);
}

ESP_TEST_MAIN("hints of MPI-IO", { "refused", test_refused }, { "numbers", test_numbers },
              { "given to MPI", test_info }, { "a new file", test_create })
