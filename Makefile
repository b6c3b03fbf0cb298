# Espalier. `make demo` and `make check` install what is missing on Debian, build, and run.
#
# Elsewhere (modules, Spack): make the packages below visible to pkg-config, or set CC, CXX and the
# variables HDF5_PC, BLAS_PC to the names that your centre uses. Nothing else in here is Debian's.

# ---- packages: the only list of them -------------------------------------------------------------
APT_BUILD   := build-essential pkg-config libopenmpi-dev openmpi-bin libhdf5-openmpi-dev \
               libconfig-dev libjansson-dev libpcre2-dev libsentencepiece-dev libxxhash-dev libutf8proc-dev
APT_TEST    := libcunit1-dev libopenblas-openmp-dev hdf5-tools clang-format-14 cppcheck shellcheck
APT_INTEROP := python3-venv
APT_OPTION  := libdnnl-dev

# ---- toolchain -----------------------------------------------------------------------------------
CC       := mpicc
CXX      := mpicxx
HDF5_PC  ?= hdf5-openmpi
BLAS_PC  ?= openblas
OBJCOPY  ?= objcopy
SANITIZE ?=
NP       ?= 1 2 3 4
PREFIX   ?= /usr/local

BUILD    := build$(if $(SANITIZE),/sanitize)
LIBS_PC  := $(HDF5_PC) libconfig jansson libpcre2-8 sentencepiece libutf8proc
WARN     := -Wall -Wextra -Wconversion -Wshadow -Wvla
OPT      := $(if $(SANITIZE),-O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE),-O3 -g)
VERSION  := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
PC_FLAGS := $(shell pkg-config --cflags $(LIBS_PC) 2>/dev/null | sed 's/-I/-isystem /g')
PC_LIBS  := $(shell pkg-config --libs $(LIBS_PC) 2>/dev/null)

# Widths of vectors that the kernels are built for; one of them is chosen at start (src/tensor/isa.c tests for
# these instructions). The rest of the program is for any processor of the architecture.
ISAS       := $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),sse2 avx2 avx512,generic)
ISA_sse2   := -march=x86-64
ISA_avx2   := $(ISA_sse2) -mavx2 -mfma -mbmi2
ISA_avx512 := $(ISA_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl

# oneDNN 2, for precision = "bf16": where a call of it compiles and links. `make DNNL=` builds without.
DNNL     := $(shell echo 'dnnl_matmul_desc_t d; int main(void) { return (int)dnnl_get_effective_cpu_isa(); }' |\
                    $(CC) -include oneapi/dnnl/dnnl.h -x c -o /dev/null - -ldnnl 2>/dev/null && echo -ldnnl)
DNNL_SAYS = oneDNN: $(if $(DNNL),found,not found (libdnnl-dev), precision = "bf16" will be refused)
CPPFLAGS  = -D_GNU_SOURCE -Iinclude -Isrc $(PC_FLAGS) -MMD -MP
CFLAGS    = -std=c11 $(WARN) $(OPT) -fopenmp
CXXFLAGS  = -std=c++17 $(OPT)
LDFLAGS   = $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -fopenmp
LDLIBS    = $(PC_LIBS) $(DNNL) -lstdc++ -lm

# ---- files ---------------------------------------------------------------------------------------
PLAIN    := $(addprefix src/tensor/,batch.c bf16.c dnnl.c dtype.c isa.c)
KERNELS  := $(filter-out $(PLAIN),$(sort $(wildcard src/tensor/*.c)))
SOURCES  := $(filter-out $(KERNELS),$(sort $(wildcard src/*/*.c)))
SHIMS    := $(sort $(wildcard src/*/*.cc))
OBJECTS  := $(SOURCES:src/%.c=$(BUILD)/obj/%.o) $(SHIMS:src/%.cc=$(BUILD)/obj/%.o)
KERNEL_OBJECTS := $(foreach isa,$(ISAS),$(KERNELS:src/tensor/%.c=$(BUILD)/obj/$(isa)/%.o))
LIBRARY  := $(BUILD)/libespalier.a
SCRIPTS  := $(sort $(wildcard tests/cli/*.sh))
programs  = $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(sort $(wildcard tests/$1/*.c))))
UNIT     := $(call programs,unit)
PARALLEL := $(call programs,mpi)
BENCHES  := $(call programs,bench)
TOOLS    := $(call programs,interop)

.PHONY: all check unit demo bench lint docs format install clean deps deps-test interop
.SUFFIXES:

all: $(BUILD)/espalier

ifeq ($(PC_LIBS),)
$(BUILD)/espalier $(LIBRARY): missing-libraries
.PHONY: missing-libraries
missing-libraries:
	@sh tests/support/deps.sh --explain $(APT_BUILD)
endif

$(BUILD)/espalier: $(BUILD)/obj/cli/main.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(filter-out $(BUILD)/obj/cli/main.o,$(OBJECTS)) $(ISAS:%=$(BUILD)/obj/kernels_%.o)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/%.o: src/%.cc
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c -o $@ $<

# Kernels: the objects of a width become one, whose only global name is its table (src/tensor/kernels_impl.h).
define kernels_of
$(BUILD)/obj/$1/%.o: src/tensor/%.c
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS) -DESP_TABLE=esp_kernels_$1 $$(CFLAGS) $$(ISA_$1) -fno-lto -c -o $$@ $$<

$(BUILD)/obj/kernels_$1.o: $(KERNELS:src/tensor/%.c=$(BUILD)/obj/$1/%.o)
	$$(LD) -r -o $$@ $$^
	$$(OBJCOPY) --keep-global-symbol=esp_kernels_$1 $$@

# The products are chains of fused multiply-adds; ISO C alone would round in between.
$(addprefix $(BUILD)/obj/$1/,gemm.o moments.o cholesky.o): CFLAGS += -ffp-contract=fast
endef
$(foreach isa,$(ISAS),$(eval $(call kernels_of,$(isa))))

# The version is compiled into one file, again whenever it changes.
$(BUILD)/obj/base/version.o: CPPFLAGS += -DESP_VERSION='"$(VERSION)"'
$(BUILD)/obj/base/version.o: $(BUILD)/version
$(BUILD)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

# Likewise what the build has found of oneDNN.
$(BUILD)/obj/tensor/dnnl.o: CPPFLAGS += $(if $(DNNL),-DESPALIER_HAVE_DNNL)
$(BUILD)/obj/tensor/dnnl.o: $(BUILD)/dnnl
$(BUILD)/dnnl: FORCE
	@mkdir -p $(@D)
	@echo '$(DNNL)' | cmp -s - $@ || { echo '$(DNNL)' > $@; echo '$(DNNL_SAYS)'; }
FORCE:

# The benchmarks' measure of products; the program has its own.
$(BENCHES): CPPFLAGS += $(shell pkg-config --cflags $(BLAS_PC) 2>/dev/null | sed 's/-I/-isystem /g')
$(BENCHES): LDLIBS += $(shell pkg-config --libs $(BLAS_PC) 2>/dev/null)

# What this test counts (tests/support/heap_counter.h).
$(BUILD)/tests/mpi_memory: LDFLAGS += -Wl,--wrap=aligned_alloc,--wrap=reallocarray,--wrap=free

vpath %.c tests/unit tests/mpi tests/bench tests/interop
$(UNIT) $(PARALLEL) $(BENCHES) $(TOOLS): CPPFLAGS += -Itests/support
$(BUILD)/tests/%: %.c $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIBRARY) $(LDLIBS) -lcunit

-include $(OBJECTS:.o=.d) $(KERNEL_OBJECTS:.o=.d) $(UNIT:=.d) $(PARALLEL:=.d) $(BENCHES:=.d) $(TOOLS:=.d)

# ---- tests ---------------------------------------------------------------------------------------
check: deps-test
	@$(MAKE) --no-print-directory -j2 check-only

LINT_FLAGS = $(filter-out -M%,$(CPPFLAGS)) -std=c11 -fopenmp

.PHONY: check-only
check-only: $(BUILD)/espalier $(UNIT) $(PARALLEL)
	@BUILD=$(BUILD) NP="$(NP)" SANITIZE="$(SANITIZE)" sh tests/support/run.sh $(UNIT) $(PARALLEL) $(if $(SANITIZE),,$(SCRIPTS))

bench: deps-test
	@$(MAKE) --no-print-directory -j2 bench-only

.PHONY: bench-only
bench-only: $(BUILD)/espalier $(BENCHES)
	@BUILD=$(BUILD) sh tests/bench/bench.sh $(BENCHES)

demo: deps
	@$(MAKE) --no-print-directory -j2 all
	@BUILD=$(BUILD) sh jobs/demo.sh

# What scripts do on purpose: `a && b || fail` (2015), dollars that are for awk or another shell (2016), functions
# that a trap or a variable calls (2317).
SHELL_MAY := SC2015,SC2016,SC2317
SHELLS    := $(sort $(wildcard jobs/*.sh slurm/* tests/*/*.sh)) .ci/run

lint:
	@sh tests/support/lint.sh
	@CC="$(CC)" sh tests/support/headers.sh $(LINT_FLAGS)
	@mkdir -p build/cppcheck
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability,performance --inline-suppr \
	    --library=tests/support/cppcheck.cfg --cppcheck-build-dir=build/cppcheck -Iinclude -Isrc src
	@echo "cppcheck: clean"
	@shellcheck --shell=sh --external-sources --source-path=SCRIPTDIR --source-path=. --exclude=$(SHELL_MAY) $(SHELLS)
	@echo "shellcheck: clean"

interop: all $(TOOLS)
	@BUILD=$(BUILD) sh tests/interop/interop.sh

docs: all
	$(BUILD)/espalier config --reference > docs/settings.md
	@sh tests/bench/bench_table.sh tests/bench/bench_reference_avx512f_bf16.json > $(BUILD)/ratios
	@sed -i -e '/^<!-- ratios -->/,/^<!-- end -->/{//!d}' -e '/^<!-- ratios -->/r $(BUILD)/ratios' docs/performance.md

format:
	clang-format -i $(wildcard src/*/*.[ch] src/*/*.cc include/espalier/*.h tests/*/*.[ch])

install: all
	install -D -m 755 $(BUILD)/espalier $(DESTDIR)$(PREFIX)/bin/espalier

clean:
	rm -rf build

# ---- what a bare machine lacks -------------------------------------------------------------------
deps:
	@sh tests/support/deps.sh $(APT_BUILD)
deps-test:
	@sh tests/support/deps.sh $(APT_BUILD) $(APT_TEST) $(APT_OPTION)
