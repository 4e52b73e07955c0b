package egpu;

import java.util.concurrent.ThreadLocalRandom;

/**
 * Known series by the exact bytes of their labels: a sender repeats them every scrape, so they are looked at once.
 *
 * <p>Bounded in series and in bytes; when full it is emptied as a whole. Most bodies name their series in the order of
 * the body before, so the series that followed last time is tried first, by one comparison.
 */
final class SeriesCache {
    /** Memory for label bytes is bounded by this mean per series; 12 labels of Kubernetes take about 355. */
    private static final int BYTES_A_SERIES = 512;

    /** Texts are kept for the first series, about 200,000 of them; those of the others are made when wanted. */
    private static final long TEXT_BYTES_MAX = 64 << 20;

    private final int countMax;
    private final long bytesMax;
    /** So that a sender cannot aim at one slot. */
    private final long seed = ThreadLocalRandom.current().nextLong();

    private Series[] slots = new Series[1024];
    private int count;
    private long bytesUsed;
    private long textBytesUsed;
    private Series last;

    SeriesCache(int countMax, long bytesMaxAtLeast) {
        this.countMax = countMax;
        this.bytesMax = Math.max((long) countMax * BYTES_A_SERIES, bytesMaxAtLeast);
    }

    int size() {
        return count;
    }

    /** The series that followed the last one before, if the bytes begin with its labels and have no more labels. */
    Series predicted(byte[] bytes, int from, int to) {
        Series guess = last == null ? null : last.next;
        if (guess == null) {
            return null;
        }
        int length = guess.labels.length;
        if (length > to - from || length < to - from && bytes[from + length] == 0x0a || !guess.is(bytes, from, from + length)) {
            return null;
        }
        return last = guess;
    }

    Series find(byte[] bytes, int from, int to, long hash) {
        int mask = slots.length - 1;
        for (int slot = (int) hash & mask; slots[slot] != null; slot = slot + 1 & mask) {
            Series each = slots[slot];
            if (each.hash == hash && each.is(bytes, from, to)) {
                return follow(each);
            }
        }
        return null;
    }

    void add(Series series) {
        if (count == countMax || bytesUsed + series.labels.length > bytesMax) {
            clear();
        }
        if (2 * count + 2 > slots.length) {
            grow();
        }
        put(slots, series);
        count++;
        bytesUsed += series.labels.length;
        follow(series);
    }

    /** Whether a text of so many bytes may be kept. */
    boolean keepsText(int bytes) {
        if (textBytesUsed + bytes > TEXT_BYTES_MAX) {
            return false;
        }
        textBytesUsed += bytes;
        return true;
    }

    private Series follow(Series series) {
        if (last != null) {
            last.next = series;
        }
        return last = series;
    }

    private void clear() {
        slots = new Series[1024];
        count = 0;
        bytesUsed = 0;
        textBytesUsed = 0;
        last = null;
    }

    private void grow() {
        Series[] larger = new Series[2 * slots.length];
        for (Series each : slots) {
            if (each != null) {
                put(larger, each);
            }
        }
        slots = larger;
    }

    private static void put(Series[] slots, Series series) {
        int mask = slots.length - 1;
        int slot = (int) series.hash & mask;
        while (slots[slot] != null) {
            slot = slot + 1 & mask;
        }
        slots[slot] = series;
    }

    long hash(byte[] bytes, int from, int to) {
        long mixed = seed ^ 0x9e3779b97f4a7c15L;
        long hash = seed + (to - from);
        int at = from;
        for (; to - at >= 16; at += 16) {
            hash = fold((long) Wire.LONG.get(bytes, at) ^ mixed, (long) Wire.LONG.get(bytes, at + 8) ^ hash);
        }
        long low = 0;
        long high = 0;
        for (int i = 0; at + i < to; i++) {
            long each = bytes[at + i] & 0xffL;
            if (i < 8) {
                low |= each << 8 * i;
            } else {
                high |= each << 8 * (i - 8);
            }
        }
        hash = fold(low ^ mixed, high ^ hash);
        return fold(hash ^ mixed, 0xd6e8feb86659fd93L);
    }

    private static long fold(long left, long right) {
        return left * right ^ Math.multiplyHigh(left, right);
    }
}
