/// Checks one complete epoch before it is acknowledged and handed on: the part of the nested streams from the record
/// after one CHECKPOINT_END up to and including the next.
///
/// The stock restorer would find the same faults only after the epoch was acknowledged, and then destroy the replica.
public enum EpochCheck {
    /// - Returns: how many pages the epoch's PAGE_DATA records name.
    public static func pageCount(of epoch: UnsafeRawBufferPointer) throws(StreamError) -> Int {
        var pages = 0
        var offset = 0

        while true {
            let record = try body(of: .libxc, in: epoch, at: offset)
            let type = LibxcFormat.RecordType(rawValue: record.type)
            offset += record.totalBytes
            if type == .checkpoint { break }
            // Stock restorers die of an optional record here (xg_sr_restore.c: handle_checkpoint).
            guard type != .end, !type.isOptional else { throw .unexpectedRecord(.libxc, type: type.rawValue) }
            if type == .pageData { pages += try pageCount(ofPageData: record.body) }
        }

        while offset < epoch.count {
            let record = try body(of: .libxl, in: epoch, at: offset)
            offset += record.totalBytes
            switch LibxlFormat.RecordType(rawValue: record.type) {
            case .checkpointEnd:
                guard offset == epoch.count else { throw .bytesAfterEnd }
                return pages
            case .emulatorXenstoreData, .emulatorContext:
                // Both begin with the emulator's id and index (8 bytes).
                guard record.body.count >= 8 else { throw .badHeader(.libxl) }
            default:
                throw .unexpectedRecord(.libxl, type: record.type)
            }
        }
        throw .badHeader(.libxl)
    }

    private static func pageCount(ofPageData body: UnsafeRawBufferPointer) throws(StreamError) -> Int {
        guard body.count >= LibxcFormat.pageDataHeaderBytes else { throw .malformedPageData }
        let count = Int(body.littleEndian(at: 0, as: UInt32.self))
        let contentsOffset = LibxcFormat.pageDataHeaderBytes + count * 8
        guard count > 0, body.count >= contentsOffset else { throw .malformedPageData }

        var withContents = 0
        for index in 0..<count {
            let entry: UInt64 = body.littleEndian(at: LibxcFormat.pageDataHeaderBytes + index * 8)
            switch LibxcFormat.pageTypeHasContents(entry >> LibxcFormat.pageTypeShift) {
            case true?: withContents += 1
            case false?: break
            case nil: throw .malformedPageData
            }
        }
        guard body.count == contentsOffset + withContents * LibxcFormat.pageBytes else { throw .malformedPageData }
        return count
    }

    private static func body(
        of layer: StreamError.Layer, in epoch: UnsafeRawBufferPointer, at offset: Int
    ) throws(StreamError) -> (type: UInt32, body: UnsafeRawBufferPointer, totalBytes: Int) {
        guard epoch.count - offset >= 8 else { throw .badHeader(layer) }
        let type: UInt32 = epoch.littleEndian(at: offset)
        let length = Int(epoch.littleEndian(at: offset + 4, as: UInt32.self))
        guard epoch.count - offset - 8 >= paddedLength(length) else {
            throw .recordTooLong(layer, type: type, lengthBytes: length)
        }
        return (type, epoch.part(from: offset + 8, count: length), 8 + paddedLength(length))
    }
}
