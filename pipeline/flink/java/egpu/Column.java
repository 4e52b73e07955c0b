package egpu;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.RowType;

/** One declared column: what it carries follows from its name, and how from its type. */
final class Column implements Serializable {
    private static final long serialVersionUID = 1L;

    enum Kind {
        TIME,
        TIME_MILLIS,
        VALUE,
        NAME,
        SERIES_ID,
        SERIES,
        LABELS,
        CORRUPT,
        LABEL
    }

    final Kind kind;
    final byte[] label;

    private Column(Kind kind, byte[] label) {
        this.kind = kind;
        this.label = label;
    }

    /** The columns of a table, in order. Throws ValidationException with one sentence naming the column. */
    static List<Column> of(RowType row) {
        List<Column> columns = new ArrayList<>();
        for (RowType.RowField field : row.getFields()) {
            columns.add(of(field.getName(), field.getType()));
        }
        return columns;
    }

    private static Column of(String name, LogicalType type) {
        switch (name) {
            case "ts":
                return new Column(time(type), null);
            case "value":
                return typed(Kind.VALUE, name, type, LogicalTypeRoot.DOUBLE);
            case "name":
                return typed(Kind.NAME, name, type, LogicalTypeRoot.VARCHAR);
            case "series_id":
                return typed(Kind.SERIES_ID, name, type, LogicalTypeRoot.BIGINT);
            case "series":
                return typed(Kind.SERIES, name, type, LogicalTypeRoot.VARCHAR);
            case "labels":
                return labels(type);
            case "corrupt":
                return typed(Kind.CORRUPT, name, type, LogicalTypeRoot.VARBINARY);
            default:
                Column label = typed(Kind.LABEL, name, type, LogicalTypeRoot.VARCHAR);
                return new Column(label.kind, name.getBytes(java.nio.charset.StandardCharsets.UTF_8));
        }
    }

    private static Column typed(Kind kind, String name, LogicalType type, LogicalTypeRoot wanted) {
        if (type.getTypeRoot() != wanted) {
            throw new ValidationException(
                    "format remote-write: column " + name + " is " + type.asSummaryString() + ", it has to be "
                            + (wanted == LogicalTypeRoot.VARCHAR ? "STRING" : wanted == LogicalTypeRoot.VARBINARY ? "BYTES" : wanted));
        }
        return new Column(kind, null);
    }

    private static Kind time(LogicalType type) {
        switch (type.getTypeRoot()) {
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
            case TIMESTAMP_WITHOUT_TIME_ZONE:
                return Kind.TIME;
            case BIGINT:
                return Kind.TIME_MILLIS;
            default:
                throw new ValidationException("format remote-write: column ts is " + type.asSummaryString()
                        + ", it has to be TIMESTAMP_LTZ(3), TIMESTAMP(3) or BIGINT");
        }
    }

    private static Column labels(LogicalType type) {
        boolean texts = type instanceof MapType
                && ((MapType) type).getKeyType().getTypeRoot() == LogicalTypeRoot.VARCHAR
                && ((MapType) type).getValueType().getTypeRoot() == LogicalTypeRoot.VARCHAR;
        if (!texts) {
            throw new ValidationException("format remote-write: column labels is " + type.asSummaryString()
                    + ", it has to be MAP<STRING, STRING>");
        }
        return new Column(Kind.LABELS, null);
    }
}
