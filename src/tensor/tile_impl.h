/* tile_impl.h - cutting a range into tiles of fixed size, the last of which may be shorter. */
#ifndef ESPALIER_TILE_IMPL_H
#define ESPALIER_TILE_IMPL_H

#include <stddef.h>

/* Length of the tile that begins at `at` in a range of n. */
static inline size_t esp_tile(size_t at, size_t n, size_t tile)
{
    return n - at < tile ? n - at : tile;
}

#endif
