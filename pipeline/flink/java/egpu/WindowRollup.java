package egpu;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.functions.AggregateFunction;

/**
 * {@code window_rollup(ts, value, series [, window_ms])}: one series in one window, as pipeline/contract/tables.py says.
 *
 * <p>Windows begin at whole multiples of their length since 1970 UTC; without window_ms it is five minutes. A NULL value
 * is no sample, but its row may still name the series.
 */
@FunctionHint(
        output = @DataTypeHint(
                value = "ROW<series STRING, sample_count BIGINT, value_max DOUBLE, value_mean DOUBLE, value_p95 DOUBLE, "
                        + "value_first DOUBLE, value_last DOUBLE, value_rise DOUBLE, times BYTES>",
                bridgedTo = RowData.class))
public final class WindowRollup extends AggregateFunction<RowData, SeriesWindow> {
    private static final long serialVersionUID = 1L;
    private static final int WINDOW_MS = 300_000;

    @Override
    public SeriesWindow createAccumulator() {
        return new SeriesWindow();
    }

    public void accumulate(
            SeriesWindow window,
            @DataTypeHint(value = "TIMESTAMP_LTZ(3)", bridgedTo = TimestampData.class) TimestampData time,
            Double value,
            @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData series) {
        take(window, time.getMillisecond(), value, series, WINDOW_MS);
    }

    public void accumulate(
            SeriesWindow window,
            @DataTypeHint(value = "TIMESTAMP_LTZ(3)", bridgedTo = TimestampData.class) TimestampData time,
            Double value,
            @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData series,
            Integer windowMs) {
        take(window, time.getMillisecond(), value, series, windowMs);
    }

    public void accumulate(
            SeriesWindow window,
            Long time,
            Double value,
            @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData series) {
        take(window, time, value, series, WINDOW_MS);
    }

    public void accumulate(
            SeriesWindow window,
            Long time,
            Double value,
            @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData series,
            Integer windowMs) {
        take(window, time, value, series, windowMs);
    }

    private static void take(SeriesWindow window, long time, Double value, StringData series, int windowMs) {
        if (series != null && window.getSeries() == null) {
            window.setSeries(series);
        }
        if (value != null) {
            window.add((int) Math.floorMod(time, (long) windowMs), value);
        }
    }

    public void merge(SeriesWindow window, Iterable<SeriesWindow> others) {
        for (SeriesWindow other : others) {
            window.addAll(other);
        }
    }

    @Override
    public RowData getValue(SeriesWindow window) {
        int count = window.count();
        if (count == 0) {
            return null;
        }
        double[] sorted = window.sortedValues();
        return GenericRowData.of(
                window.getSeries(),
                (long) count,
                sorted[count - 1],
                window.mean(),
                window.p95(sorted),
                window.value(0),
                window.value(count - 1),
                window.rise(),
                window.times());
    }
}
