/* unit_mpi_io.c - hints of MPI-IO: what is taken, what is refused, and what MPI is given. */
#include "espalier/mpi_io.h"

#include <stdlib.h>
#include <string.h>

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
    memset(longest, 'k', sizeof longest);
    memcpy(longest + MPI_MAX_INFO_KEY, "=1", 3);
    check_refused(longest, "longer than this MPI takes");
    CU_ASSERT_EQUAL(esp_hints_check(longest + 1), ESP_OK);
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
    const char *hints = "striping_factor=8;cb_config_list=*:1,x=y;a=b";
    MPI_Info info;
    int n;

    CU_ASSERT_EQUAL(esp_hints_check(hints), ESP_OK);
    info = esp_hints_info(hints);
    MPI_Info_get_nkeys(info, &n);
    CU_ASSERT_EQUAL(n, 3);
    check_value(info, "striping_factor", "8");
    check_value(info, "cb_config_list", "*:1,x=y");
    check_value(info, "a", "b");
    esp_hints_free(&info);
    CU_ASSERT(esp_hints_check("") == ESP_OK && esp_hints_check(NULL) == ESP_OK);
    CU_ASSERT(esp_hints_info("") == MPI_INFO_NULL && esp_hints_info(NULL) == MPI_INFO_NULL);
}

ESP_TEST_MAIN("hints of MPI-IO", { "refused", test_refused }, { "given to MPI", test_info })
