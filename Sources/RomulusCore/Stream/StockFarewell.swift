/// The only way to make a stock backup let go of its replica: an epoch that its restorer must refuse.
///
/// At the end of a stream a stock restorer takes over, whatever the end's reason. An epoch that holds a mandatory record
/// which it does not know makes it fail instead, once the epoch is complete (xg_sr_restore.c: handle_checkpoint), and
/// libxl then destroys the domain.
public enum StockFarewell {
    /// Not a type of any version of the specification; mandatory, because bit 31 is clear.
    static let unknownType: UInt32 = 0x7F52_4D00

    /// What is to be written after a stream that is cut off where `cursor` stands. A record that is under way is brought to its end
    /// first, with zeroes: nothing of this epoch is of any account. Nil where there is no place for records.
    public static func words(after cursor: StreamCursor) -> [UInt8]? {
        guard let rest = cursor.restOfRecord(unknownType: unknownType) else { return nil }
        var bytes = rest.bytes
        var types = [unknownType, LibxlFormat.RecordType.checkpointEnd.rawValue]
        // libxc's records are looked at when its CHECKPOINT is there, and libxl's behind it when CHECKPOINT_END is.
        if rest.next == .libxc { types.insert(LibxcFormat.RecordType.checkpoint.rawValue, at: 1) }
        for type in types {
            bytes.append(littleEndian: type)
            bytes.append(littleEndian: UInt32(0))
        }
        return bytes
    }
}
