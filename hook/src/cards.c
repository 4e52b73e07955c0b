#include "cards.h"

#include "contexts.h"
#include "real.h"
#include "region.h"

#include <stdio.h>
#include <string.h>

enum { DEVICE_COUNT_MAX = 64 };

/* Row + 1; 0: not looked up. A device that is no row is looked up each time, for the agent may add rows. */
static int rows[DEVICE_COUNT_MAX];

static void write_uuid(char *text, const char *prefix, const CUuuid *uuid) {
    const unsigned char *b = (const unsigned char *)uuid->bytes;
    snprintf(text, EGPU_UUID_BYTES_MAX,
             "%s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", prefix, b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static int look_up(CUdevice device) {
    CUuuid uuid;
    char text[EGPU_UUID_BYTES_MAX];
    /* _v2 names the slice of a divided card; drivers that lack it have no slices. */
    if (real.cuDeviceGetUuid_v2(&uuid, device) != CUDA_SUCCESS && real.cuDeviceGetUuid(&uuid, device) != CUDA_SUCCESS)
        return CARD_NONE;
    write_uuid(text, "GPU", &uuid);
    int row = region_card_by_uuid(text);
    if (row < 0) {
        write_uuid(text, "MIG", &uuid);
        row = region_card_by_uuid(text);
    }
    if (row < 0) {
        region_complain("a card that this container was not given: no memory on it");
        return CARD_FOREIGN;
    }
    if (device < DEVICE_COUNT_MAX)
        __atomic_store_n(&rows[device], row + 1, __ATOMIC_RELAXED);
    return row;
}

static int row_of(CUdevice device) {
    if (device < 0)
        return CARD_NONE;
    int known = device < DEVICE_COUNT_MAX ? __atomic_load_n(&rows[device], __ATOMIC_RELAXED) : 0;
    return known > 0 ? known - 1 : look_up(device);
}

int card_of_device(CUdevice device) {
    switch (region_state()) {
    case REGION_ABSENT:
        return CARD_NONE;
    case REGION_BROKEN:
        /* Asked for memory and contexts: launches pass without asking. */
        if (!region_look_again())
            return CARD_FOREIGN;
        contexts_count_late();
        break;
    default:
        break;
    }
    return row_of(device);
}

int card_to_gate(void) {
    CUdevice device;
    return region_gates_launches() && real.cuCtxGetDevice(&device) == CUDA_SUCCESS ? row_of(device) : CARD_NONE;
}

int card_current(void) {
    CUdevice device;
    if (region_state() == REGION_ABSENT || real.cuCtxGetDevice(&device) != CUDA_SUCCESS)
        return CARD_NONE;
    return card_of_device(device);
}
