/// The only way to make a stock backup let go of its replica: an epoch that its restorer must refuse.
///
/// At the end of a stream a stock restorer takes over, whatever the end's reason. An epoch that holds a mandatory record
/// which it does not know makes it fail instead, once the epoch is complete (xg_sr_restore.c: handle_checkpoint), and
/// libxl then destroys the domain.
public enum StockFarewell {
    /// Not a type of any version of the specification; mandatory, because bit 31 is clear.
    static let unknownType: UInt32 = 0x7F52_4D00

    /// To be written between two epochs.
    public static let epoch: [UInt8] = {
        var bytes: [UInt8] = []
        for type in [
            unknownType, LibxcFormat.RecordType.checkpoint.rawValue, LibxlFormat.RecordType.checkpointEnd.rawValue,
        ] {
            bytes.append(littleEndian: type)
            bytes.append(littleEndian: UInt32(0))
        }
        return bytes
    }()

    /// Behind the first CHECKPOINT, where libxl's own records follow and are looked at when CHECKPOINT_END is there: one
    /// that it must refuse. Stock libxl does not come back from an end of the stream at that place.
    public static let libxlRecords: [UInt8] = {
        var bytes: [UInt8] = []
        for type in [unknownType, LibxlFormat.RecordType.checkpointEnd.rawValue] {
            bytes.append(littleEndian: type)
            bytes.append(littleEndian: UInt32(0))
        }
        return bytes
    }()
}
