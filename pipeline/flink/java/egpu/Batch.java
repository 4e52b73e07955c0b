package egpu;

import java.util.Arrays;

/** The samples of one record, in order: three columns. Kept until the record is known to be whole. */
final class Batch {
    Series[] series = new Series[4096];
    long[] time = new long[4096];
    long[] value = new long[4096];
    int count;

    void clear() {
        // Series that left the cache must not be held here.
        Arrays.fill(series, 0, count, null);
        count = 0;
    }

    void add(Series of) {
        if (count == series.length) {
            series = Arrays.copyOf(series, 2 * count);
            time = Arrays.copyOf(time, 2 * count);
            value = Arrays.copyOf(value, 2 * count);
        }
        series[count++] = of;
    }
}
