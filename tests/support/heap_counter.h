/* heap_counter.h - what the library has allocated, to the byte: its calls come by here, as the program is
 * linked with --wrap of them (Makefile). Memory of other libraries, strings and JSON does not count. */
#ifndef ESPALIER_TEST_HEAP_COUNTER_H
#define ESPALIER_TEST_HEAP_COUNTER_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "test.h"

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void __real_free(void *p);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void __wrap_free(void *p);

enum { HEAP_SLOTS = 1 << 16 }; /* of a table by address */

static struct {
    pthread_mutex_t lock;
    void *at[HEAP_SLOTS]; /* NULL: never used; heap_gone: freed */
    size_t size[HEAP_SLOTS];
    size_t live, peak, base;
} heap = { .lock = PTHREAD_MUTEX_INITIALIZER };

static char heap_gone;

static inline size_t heap_slot(const void *p)
{
    size_t i = (uintptr_t)p / 16 * 2654435761u % HEAP_SLOTS;

    while (heap.at[i] && heap.at[i] != p) {
        i = (i + 1) % HEAP_SLOTS;
    }
    return i;
}

static inline void heap_add(void *p, size_t size)
{
    size_t i = (uintptr_t)p / 16 * 2654435761u % HEAP_SLOTS;

    pthread_mutex_lock(&heap.lock);
    while (heap.at[i] && heap.at[i] != &heap_gone) {
        i = (i + 1) % HEAP_SLOTS;
    }
    heap.at[i] = p;
    heap.size[i] = size;
    heap.live += size;
    heap.peak = heap.live > heap.peak ? heap.live : heap.peak;
    pthread_mutex_unlock(&heap.lock);
}

static inline void heap_remove(const void *p)
{
    size_t i;

    pthread_mutex_lock(&heap.lock);
    i = heap_slot(p);
    if (p && heap.at[i] == p) {
        heap.at[i] = &heap_gone;
        heap.live -= heap.size[i];
    }
    pthread_mutex_unlock(&heap.lock);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    void *p = __real_aligned_alloc(alignment, size);

    heap_add(p, size);
    return p;
}

/* As if it had grown in place. */
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    heap_remove(p);
    p = __real_reallocarray(p, n, size);
    heap_add(p, n * size);
    return p;
}

void __wrap_free(void *p)
{
    heap_remove(p);
    __real_free(p);
}

static inline void heap_begin(void)
{
    heap.base = heap.peak = heap.live;
}

/* Bytes at most since then, beside what there was. */
static inline size_t heap_peak(void)
{
    return heap.peak - heap.base;
}

#endif
