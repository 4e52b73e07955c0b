package egpu;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.data.StringData;

/**
 * The samples of one series in one window while it is open: each time once, of several values at a time the greatest.
 *
 * <p>As state it is the series' name and one byte string: 12 bytes a sample, int32 ms after the start of the window and
 * the 8 bytes of the value, little-endian, ascending by time. Its size is bounded by the window: a time counts once.
 */
public final class SeriesWindow {
    static final int BYTES_A_SAMPLE = 12;
    private static final int VALUE_AT = 4;
    private static final int P95 = 95;
    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle DOUBLE = MethodHandles.byteArrayViewVarHandle(double[].class, ByteOrder.LITTLE_ENDIAN);
    private static final byte[] NONE = new byte[0];

    private @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData series;
    private byte[] samples = NONE;

    private transient int used;
    private transient boolean unsorted;

    public StringData getSeries() {
        return series;
    }

    public void setSeries(StringData series) {
        this.series = series;
    }

    /** The samples in order, without room to spare. */
    public byte[] getSamples() {
        order();
        if (samples.length != used) {
            samples = Arrays.copyOf(samples, used);
        }
        return samples;
    }

    public void setSamples(byte[] samples) {
        this.samples = samples;
        used = samples.length;
        unsorted = false;
    }

    int count() {
        order();
        return used / BYTES_A_SAMPLE;
    }

    int time(int index) {
        return (int) INT.get(samples, index * BYTES_A_SAMPLE);
    }

    double value(int index) {
        return (double) DOUBLE.get(samples, index * BYTES_A_SAMPLE + VALUE_AT);
    }

    void add(int time, double value) {
        if (used == samples.length) {
            room(BYTES_A_SAMPLE);
        }
        if (used > 0 && !unsorted) {
            int last = used - BYTES_A_SAMPLE;
            int lastTime = (int) INT.get(samples, last);
            if (time == lastTime) {
                if (value > (double) DOUBLE.get(samples, last + VALUE_AT)) {
                    DOUBLE.set(samples, last + VALUE_AT, value);
                }
                return;
            }
            unsorted = time < lastTime;
        }
        INT.set(samples, used, time);
        DOUBLE.set(samples, used + VALUE_AT, value);
        used += BYTES_A_SAMPLE;
    }

    void addAll(SeriesWindow other) {
        if (series == null) {
            series = other.series;
        }
        int count = other.count();
        if (count == 0) {
            return;
        }
        if (used == 0) {
            // The other's bytes may be those of a buffer that is used again.
            setSamples(other.getSamples().clone());
            return;
        }
        if (used + other.used > samples.length) {
            room(other.used);
        }
        unsorted = unsorted || other.time(0) <= time(used / BYTES_A_SAMPLE - 1);
        System.arraycopy(other.samples, 0, samples, used, other.used);
        used += other.used;
    }

    /** Times that came twice are put together before more memory is taken. */
    private void room(int bytes) {
        if (unsorted) {
            order();
        }
        if (used + bytes > samples.length / 4 * 3) {
            int count = samples.length / BYTES_A_SAMPLE;
            samples = Arrays.copyOf(samples, Math.max(used + bytes, (count + count / 2 + 4) * BYTES_A_SAMPLE));
        }
    }

    private void order() {
        if (!unsorted) {
            return;
        }
        int count = used / BYTES_A_SAMPLE;
        long[] keys = new long[count];
        for (int i = 0; i < count; i++) {
            keys[i] = (long) time(i) << 32 | i;
        }
        Arrays.sort(keys);
        byte[] sorted = new byte[samples.length];
        int to = -BYTES_A_SAMPLE;
        for (int i = 0; i < count; i++) {
            int time = (int) (keys[i] >> 32);
            double value = value((int) keys[i]);
            if (to >= 0 && time == (int) INT.get(sorted, to)) {
                value = Math.max(value, (double) DOUBLE.get(sorted, to + VALUE_AT));
            } else {
                to += BYTES_A_SAMPLE;
                INT.set(sorted, to, time);
            }
            DOUBLE.set(sorted, to + VALUE_AT, value);
        }
        samples = sorted;
        used = to + BYTES_A_SAMPLE;
        unsorted = false;
    }

    double mean() {
        int count = count();
        double sum = 0;
        double greatest = Double.NEGATIVE_INFINITY;
        for (int i = 0; i < count; i++) {
            sum += value(i);
            greatest = Math.max(greatest, value(i));
        }
        // Rounding must not lift a mean above the greatest value.
        return Math.min(sum / count, greatest);
    }

    /** Nearest rank: the ceil(0.95 n)-th smallest. */
    double p95(double[] sorted) {
        return sorted[(int) ((P95 * (long) sorted.length + 99) / 100) - 1];
    }

    double[] sortedValues() {
        double[] values = new double[count()];
        for (int i = 0; i < values.length; i++) {
            values[i] = value(i);
        }
        Arrays.sort(values);
        return values;
    }

    /** Sum of the rises between samples; a fall is a counter's reset, after which it rose from 0. */
    double rise() {
        int count = count();
        double rise = 0;
        for (int i = 1; i < count; i++) {
            double before = value(i - 1);
            double now = value(i);
            rise += now < before ? now : now - before;
        }
        return rise;
    }

    byte[] times() {
        int count = count();
        byte[] times = new byte[4 * count];
        for (int i = 0; i < count; i++) {
            INT.set(times, 4 * i, time(i));
        }
        return times;
    }
}
