/* isa.h - the vector instructions of the kernels (tensor.h, packed.h): chosen once at start, from what the
 * processor has. A piece of global state.
 *
 * Results of a width are the same bits on any processor that has it, ranks and threads whatever they are;
 * from one width to another sums are rounded differently.
 */
#ifndef ESPALIER_ISA_H
#define ESPALIER_ISA_H

#include "espalier/status.h"

/* Name of width i of this build, narrowest first, NULL behind the last: "sse2", "avx2", "avx512" on
 * x86-64, "generic" elsewhere. Local. */
const char *esp_isa_at(size_t i);

/* Takes kernels of the width `name`, of the widest that the processor has where that is NULL or empty, as
 * a program begins with. ESP_EUSAGE, and the kernels as they were, for a name that is unknown or a width
 * that the processor lacks. Local; not while a kernel runs, nor while there are packed rows (packed.h). */
esp_status esp_isa_choose(const char *name);

/* Takes the narrowest width that any rank has chosen on all of them, and logs it. Collective on comm. */
void esp_isa_agree(MPI_Comm comm);

/* Width of the kernels in use. Local. */
const char *esp_isa_name(void);

#endif
