package egpu;

import java.util.Arrays;

/** Reads a snappy block (google/snappy format_description.txt) into a buffer of its own that grows up to a limit. */
final class SnappyBlock {
    private final int bytesMax;
    private byte[] out = new byte[0];

    SnappyBlock(int bytesMax) {
        this.bytesMax = bytesMax;
    }

    /** Where the body lies; it is valid until the next read. */
    byte[] buffer() {
        return out;
    }

    /** Fill the buffer and return the length of the body. The declared size is checked before memory is taken. */
    int read(byte[] block) throws CorruptRecord {
        int at = 0;
        long declared = 0;
        for (int shift = 0; ; shift += 7) {
            if (at == block.length || shift > 28) {
                throw new CorruptRecord("not a snappy block: no length");
            }
            byte each = block[at++];
            declared |= (long) (each & 0x7f) << shift;
            if (each >= 0) {
                break;
            }
        }
        if (declared > bytesMax) {
            throw new CorruptRecord("declares " + declared + " bytes, more than " + bytesMax);
        }
        int length = (int) declared;
        if (out.length < length) {
            out = new byte[(int) Math.min(2L * length, bytesMax)];
        }
        int filled = elements(block, at, length);
        if (filled != length) {
            throw new CorruptRecord("snappy block declares " + length + " bytes and holds " + filled);
        }
        return length;
    }

    private int elements(byte[] block, int at, int length) throws CorruptRecord {
        int filled = 0;
        while (at < block.length) {
            int tag = block[at++] & 0xff;
            int kind = tag & 3;
            int extra = kind == 0 ? Math.max((tag >>> 2) - 59, 0) : kind == 3 ? 4 : kind;
            if (block.length - at < extra) {
                throw new CorruptRecord("snappy block ends inside an element");
            }
            long number = 0;
            for (int i = 0; i < extra; i++) {
                number |= (block[at++] & 0xffL) << 8 * i;
            }
            if (kind == 0) {
                long size = 1 + (extra == 0 ? tag >>> 2 : number);
                if (size > block.length - at || size > length - filled) {
                    throw new CorruptRecord("snappy block: a literal is too long");
                }
                System.arraycopy(block, at, out, filled, (int) size);
                at += (int) size;
                filled += (int) size;
            } else {
                int size = kind == 1 ? 4 + (tag >>> 2 & 7) : 1 + (tag >>> 2);
                long offset = kind == 1 ? number | (tag >>> 5 << 8) : number;
                if (offset == 0 || offset > filled || size > length - filled) {
                    throw new CorruptRecord("snappy block: a copy is out of range");
                }
                copy(filled, (int) offset, size);
                filled += size;
            }
        }
        return filled;
    }

    /** A copy may overlap what it writes; then the bytes repeat. */
    private void copy(int to, int offset, int size) {
        if (offset >= size) {
            System.arraycopy(out, to - offset, out, to, size);
        } else if (offset == 1) {
            Arrays.fill(out, to, to + size, out[to - 1]);
        } else {
            for (int i = 0; i < size; i++) {
                out[to + i] = out[to + i - offset];
            }
        }
    }
}
