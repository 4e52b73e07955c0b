/* How much a copy moves, and whether both ends lie on one card. An address that may be the host's is asked for. */
#ifndef EGPU_COPY_PLACES_H
#define EGPU_COPY_PLACES_H

#include <stdbool.h>

#include "driver.h"

uint64_t copy_bytes_2d(const CUDA_MEMCPY2D *copy);
uint64_t copy_bytes_3d(const CUDA_MEMCPY3D *copy);
uint64_t copy_bytes_peer(const CUDA_MEMCPY3D_PEER *copy);
uint64_t copy_bytes_batch(const size_t *sizes, size_t count);
uint64_t copy_bytes_3d_batch(const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count);

bool copy_on_card(CUdeviceptr to, CUdeviceptr from);
bool copy_on_card_2d(const CUDA_MEMCPY2D *copy);
bool copy_on_card_3d(const CUDA_MEMCPY3D *copy);
bool copy_on_card_peer(const CUDA_MEMCPY3D_PEER *copy);
/* Any of them. */
bool copy_on_card_batch(const CUdeviceptr *to, const CUdeviceptr *from, size_t count);
bool copy_on_card_3d_batch(const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count);

#endif
