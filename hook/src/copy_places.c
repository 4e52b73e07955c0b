#include "copy_places.h"

#include "real.h"

/* Where an end lies: a device of the driver, or one of these. */
enum { PLACE_HOST = -1, PLACE_ANY_CARD = -2 };
enum { OPERAND_POINTER = 1, OPERAND_ARRAY = 2 };

uint64_t copy_bytes_2d(const CUDA_MEMCPY2D *copy) { return copy ? copy->WidthInBytes * copy->Height : 0; }
uint64_t copy_bytes_3d(const CUDA_MEMCPY3D *copy) {
    return copy ? copy->WidthInBytes * copy->Height * copy->Depth : 0;
}
uint64_t copy_bytes_peer(const CUDA_MEMCPY3D_PEER *copy) {
    return copy ? copy->WidthInBytes * copy->Height * copy->Depth : 0;
}
uint64_t copy_bytes_batch(const size_t *sizes, size_t count) {
    uint64_t bytes = 0;
    for (size_t each = 0; sizes && each < count; each++) bytes += sizes[each];
    return bytes;
}
uint64_t copy_bytes_3d_batch(const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count) {
    uint64_t bytes = 0;
    for (size_t each = 0; copies && each < count; each++)
        bytes += copies[each].extent.width * copies[each].extent.height * copies[each].extent.depth;
    return bytes;
}

static int place_of_address(CUdeviceptr address) {
    unsigned int type = 0;
    int device = PLACE_HOST;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void *answers[] = {&type, &device};
    if (real.cuPointerGetAttributes(2, attributes, answers, address) != CUDA_SUCCESS) return PLACE_HOST;
    return type == CU_MEMORYTYPE_DEVICE ? device : PLACE_HOST;
}

static int place_of(CUmemorytype type, CUdeviceptr address) {
    if (type == CU_MEMORYTYPE_ARRAY) return PLACE_ANY_CARD;
    return type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED ? place_of_address(address) : PLACE_HOST;
}

static int place_of_operand(const CUmemcpy3DOperand *operand) {
    if (operand->type == OPERAND_ARRAY) return PLACE_ANY_CARD;
    return operand->type == OPERAND_POINTER ? place_of_address(operand->op.ptr.ptr) : PLACE_HOST;
}

static bool on_one_card(int to, int from) {
    if (to == PLACE_HOST || from == PLACE_HOST) return false;
    return to == from || to == PLACE_ANY_CARD || from == PLACE_ANY_CARD;
}

bool copy_on_card(CUdeviceptr to, CUdeviceptr from) {
    int place = place_of_address(to);
    return place != PLACE_HOST && on_one_card(place, place_of_address(from));
}

bool copy_on_card_2d(const CUDA_MEMCPY2D *copy) {
    return copy && on_one_card(place_of(copy->dstMemoryType, copy->dstDevice),
                               place_of(copy->srcMemoryType, copy->srcDevice));
}

bool copy_on_card_3d(const CUDA_MEMCPY3D *copy) {
    return copy && on_one_card(place_of(copy->dstMemoryType, copy->dstDevice),
                               place_of(copy->srcMemoryType, copy->srcDevice));
}

/* An array is where its context is. */
bool copy_on_card_peer(const CUDA_MEMCPY3D_PEER *copy) {
    if (!copy) return false;
    int to = place_of(copy->dstMemoryType, copy->dstDevice), from = place_of(copy->srcMemoryType, copy->srcDevice);
    bool told = to != PLACE_ANY_CARD && from != PLACE_ANY_CARD;
    return on_one_card(to, from) && (told || copy->dstContext == copy->srcContext);
}

bool copy_on_card_batch(const CUdeviceptr *to, const CUdeviceptr *from, size_t count) {
    for (size_t each = 0; to && from && each < count; each++)
        if (copy_on_card(to[each], from[each])) return true;
    return false;
}

bool copy_on_card_3d_batch(const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count) {
    for (size_t each = 0; copies && each < count; each++)
        if (on_one_card(place_of_operand(&copies[each].dst), place_of_operand(&copies[each].src))) return true;
    return false;
}
