package egpu;

/** The bytes are no WriteRequest within the limits; the message says what is wrong. Without a stack: it is no bug. */
final class CorruptRecord extends Exception {
    private static final long serialVersionUID = 1L;

    CorruptRecord(String why) {
        super(why, null, false, false);
    }
}
