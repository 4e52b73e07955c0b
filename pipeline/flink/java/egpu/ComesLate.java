package egpu;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code comes_late(ts, CURRENT_WATERMARK(ts), received, window_ms, lateness_ms)}: whether a sample's window has been
 * closed, so that the rollup may have left it out.
 *
 * <p>A job that goes on from a checkpoint does not know its sources' watermark at once, but its windows remember theirs.
 * Until it is known again, a sample is taken to be late if it was received when its window was over.
 */
public final class ComesLate extends ScalarFunction {
    private static final long serialVersionUID = 1L;

    /** Set by {@link SqlJob} where the job starts from a savepoint. */
    static final String RESTORED = "egpu.restored";

    private transient boolean restored;

    @Override
    public void open(FunctionContext context) {
        String attempt = context.getMetricGroup().getAllVariables().getOrDefault("<task_attempt_num>", "0");
        restored = !attempt.equals("0") || context.getJobParameter(RESTORED, "false").equals("true");
    }

    public Boolean eval(
            @DataTypeHint(value = "TIMESTAMP_LTZ(3)", bridgedTo = TimestampData.class) TimestampData time,
            @DataTypeHint(value = "TIMESTAMP_LTZ(3)", bridgedTo = TimestampData.class) TimestampData watermark,
            @DataTypeHint(value = "TIMESTAMP_LTZ(3)", bridgedTo = TimestampData.class) TimestampData received,
            Integer windowMs,
            Long latenessMs) {
        if (time == null) {
            return false;
        }
        long windowEnd = Math.floorDiv(time.getMillisecond(), (long) windowMs) * windowMs + windowMs;
        if (watermark != null) {
            return windowEnd - 1 <= watermark.getMillisecond();
        }
        return restored && received != null && windowEnd + latenessMs <= received.getMillisecond();
    }

    /** It depends on where the job began. */
    @Override
    public boolean isDeterministic() {
        return false;
    }
}
