/* isa.h - the vector instructions of the kernels (tensor.h, packed.h): chosen once at start, from what the
 * processor has. A piece of global state.
 *
 * Results of a width are the same bits on any processor that has it, ranks and threads whatever they are;
 * from one width to another sums are rounded differently.
 */
#ifndef ESPALIER_ISA_H
#define ESPALIER_ISA_H

#include "espalier/status.h"

/* Name of width i of this build, narrowest first, NULL after the last: "sse2", "avx2", "avx512" on x86-64,
 * "generic" elsewhere. Static. Local. */
const char *esp_isa_at(size_t i);

/* Chooses kernels of the width `name`; NULL or "": of the widest that the processor has, which a program
 * begins with. ESP_EUSAGE, and the kernels as they were, for a name that is unknown or a width that the
 * processor lacks. Not while a kernel runs, nor while there are packed rows (packed.h). Local. */
esp_status esp_isa_choose(const char *name);

/* Chooses on all ranks the narrowest width that any of them has chosen, and logs it. Not while a kernel runs.
 * Collective on comm. */
void esp_isa_agree(MPI_Comm comm);

/* Name of the width in use. Static. Local. */
const char *esp_isa_name(void);

#endif
