/* Memory that several processes hold: the first of its holders pays; when it goes, the next one does. */
#include <sys/stat.h>

#include "virtual_memory.h"

static struct sim_export *find(int file) {
    struct stat status;
    if (fstat(file, &status) != 0)
        return NULL;
    struct sim_export *exports = sim_state()->memory.exports;
    for (int index = 0; index < SIM_EXPORTS_MAX; index++)
        if (exports[index].holders_count > 0 && exports[index].inode == status.st_ino &&
            exports[index].device == status.st_dev)
            return &exports[index];
    return NULL;
}

static bool add_holder(struct sim_export *export) {
    if (export->holders_count == SIM_EXPORT_HOLDERS_MAX)
        return false;
    export->holders[export->holders_count++] = sim_process_index();
    return true;
}

bool export_begin(int file, int card, uint64_t bytes) {
    struct stat status;
    if (fstat(file, &status) != 0)
        return false;
    sim_process_index();
    sim_lock();
    struct sim_export *exports = sim_state()->memory.exports;
    struct sim_export *place = find(file);
    for (int index = 0; place == NULL && index < SIM_EXPORTS_MAX; index++) {
        if (exports[index].holders_count > 0)
            continue;
        place = &exports[index];
        *place = (struct sim_export){.device = status.st_dev, .inode = status.st_ino, .bytes = bytes, .card = card};
        add_holder(place);
    }
    sim_unlock();
    return place != NULL;
}

bool export_join(int file, int *card, uint64_t *bytes) {
    sim_process_index();
    sim_lock();
    struct sim_export *export = find(file);
    bool joined = export != NULL && add_holder(export);
    if (joined) {
        *card = export->card;
        *bytes = export->bytes;
    }
    sim_unlock();
    return joined;
}

static void add_bytes(uint32_t process, int card, int64_t bytes) {
    struct sim_share *share = &sim_state()->processes[process].shares[card];
    share->bytes += (uint64_t)bytes;
    if (share->bytes > share->bytes_most)
        share->bytes_most = share->bytes;
    sim_state()->card[card].memory_used_bytes += (uint64_t)bytes;
}

/* Takes one holding of the process away; what it paid goes to the next. */
static bool remove_holder(struct sim_export *export, uint32_t process) {
    uint32_t place = 0;
    while (place < export->holders_count && export->holders[place] != process)
        place++;
    if (place == export->holders_count)
        return false;
    for (uint32_t next = place + 1; next < export->holders_count; next++)
        export->holders[next - 1] = export->holders[next];
    export->holders_count--;
    if (place == 0 && export->card >= 0) {
        add_bytes(process, export->card, -(int64_t)export->bytes);
        if (export->holders_count > 0)
            add_bytes(export->holders[0], export->card, (int64_t)export->bytes);
    }
    return true;
}

void export_leave(int file) {
    sim_lock();
    struct sim_export *export = find(file);
    if (export != NULL)
        remove_holder(export, sim_process_index());
    sim_unlock();
}

void exports_forget_process(uint32_t process) {
    struct sim_export *exports = sim_state()->memory.exports;
    for (int index = 0; index < SIM_EXPORTS_MAX; index++)
        while (exports[index].holders_count > 0 && remove_holder(&exports[index], process))
            continue;
}

__attribute__((constructor)) static void take_part(void) { sim_end_hook(exports_forget_process); }
