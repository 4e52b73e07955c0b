package egpu;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * A cursor over protobuf bytes: fields one after the other, nothing read past the end, nothing allocated.
 *
 * <p>What is refused is refused by the collector's decoder too (collector/contract/samples.c), for the same reason.
 */
final class Wire {
    static final int VARINT = 0;
    static final int I64 = 1;
    static final int LEN = 2;
    static final int I32 = 5;

    static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    byte[] bytes;
    int at;
    int end;

    /** Of the field read last: its number, wire type, number (VARINT, I64), and where its content lies (LEN). */
    int number;

    int type;
    long scalar;
    int inside;
    int insideEnd;

    void over(byte[] bytes, int from, int to) {
        this.bytes = bytes;
        this.at = from;
        this.end = to;
    }

    boolean hasMore() {
        return at < end;
    }

    void next() throws CorruptRecord {
        long tag = varint();
        if (tag >>> 32 != 0 || tag >>> 3 == 0) {
            throw new CorruptRecord("a field number out of range");
        }
        number = (int) (tag >>> 3);
        type = (int) tag & 7;
        switch (type) {
            case VARINT:
                scalar = varint();
                break;
            case I64:
                scalar = (long) LONG.get(bytes, skip(8));
                break;
            case LEN:
                length();
                break;
            case I32:
                skip(4);
                break;
            default:
                throw new CorruptRecord("a group or an unknown wire type");
        }
    }

    /** A length and as many bytes: {@code inside} to {@code insideEnd}. */
    void length() throws CorruptRecord {
        long length = varint();
        if (length < 0 || length > end - at) {
            throw new CorruptRecord("a length points past the end");
        }
        inside = at;
        insideEnd = at += (int) length;
    }

    long varint() throws CorruptRecord {
        long value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (at == end) {
                throw new CorruptRecord("a length points past the end");
            }
            byte each = bytes[at++];
            if (shift == 63 && (each & 0xff) > 1) {
                break;
            }
            value |= (long) (each & 0x7f) << shift;
            if (each >= 0) {
                return value;
            }
        }
        throw new CorruptRecord("a number has more than 64 bits");
    }

    private int skip(int size) throws CorruptRecord {
        if (end - at < size) {
            throw new CorruptRecord("a length points past the end");
        }
        int start = at;
        at += size;
        return start;
    }
}
