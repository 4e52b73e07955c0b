package egpu;

import java.util.Arrays;
import org.apache.flink.table.data.StringData;

/** One known series of the sender: the bytes it is known by, and what its rows carry. */
final class Series {
    private static final long NEVER = Long.MIN_VALUE;

    final byte[] labels;
    final long hash;

    /** Values of the row's columns that come from the labels, null where a sample decides; null = not wanted. */
    final Object[] columns;

    final double bound;

    /** What names the series, null where it is not wanted. */
    final SeriesTable.Rule rule;

    /** The next series of ours that the same labels stand for, null when there is none. */
    Series also;

    /** The column series, where it is kept. */
    StringData text;

    /** The series that followed this one last time. */
    Series next;

    private long window = NEVER;
    private long windowBefore = NEVER;

    Series(byte[] labels, long hash, Object[] columns, SeriesTable.Rule rule) {
        this.labels = labels;
        this.hash = hash;
        this.columns = columns;
        this.rule = rule;
        this.bound = rule == null ? 0 : rule.bound;
    }

    /** Whether this is the first sample in a window. Two windows are remembered: replicas may lag a little. */
    boolean opens(long window) {
        if (window == this.window || window == windowBefore) {
            return false;
        }
        windowBefore = this.window;
        this.window = window;
        return true;
    }

    boolean is(byte[] bytes, int from, int to) {
        return Arrays.equals(labels, 0, labels.length, bytes, from, to);
    }
}
