/* version.h - what this build is. */
#ifndef ESPALIER_VERSION_H
#define ESPALIER_VERSION_H

/* Version from git when built, such as "v1.0" or "1a2b3c4-dirty". Local. */
const char *esp_version(void);

#endif
