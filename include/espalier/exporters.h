/* exporters.h - the formats that models and adapters are written in: one row each, in
 * src/export/exporters.c.
 */
#ifndef ESPALIER_EXPORTERS_H
#define ESPALIER_EXPORTERS_H

#include "espalier/tensor_writer.h"

extern const esp_writer *const esp_exporters[]; /* [esp_n_exporters] */
extern const size_t esp_n_exporters;

/* The writer of the format of that name, NULL when there is none. Static. Local. */
const esp_writer *esp_exporter_find(const char *name);

/* Where to write: the folder dir (borrowed) in a format of the table; another name is a bug. Local. */
esp_output esp_export_to(const char *dir, const char *format);

#endif
