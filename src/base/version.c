/* version.c - the one file that is compiled with the version. */
#include "espalier/version.h"

const char *esp_version(void)
{
    return ESP_VERSION;
}
