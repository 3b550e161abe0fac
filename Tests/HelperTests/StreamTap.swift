import Foundation

/// Stands before libxl's end on the backup and keeps what passes.
final class StreamTap: Sendable {
    /// What libxl reads.
    let exit: OpenFile
    private let kept = Shared<[UInt8]>([])

    /// - Parameter kibibytesPerMillisecond: how fast the restore is; nil is as fast as it can.
    init(from source: OpenFile, kibibytesPerMillisecond: Int? = nil) throws {
        let (entry, exit) = try OpenFile.pair()
        self.exit = exit
        Thread.detachNewThread { [kept] in
            var chunk = [UInt8](repeating: 0, count: (kibibytesPerMillisecond ?? 64) << 10)
            while true {
                let count = read(source.descriptor, &chunk, chunk.count)
                guard count > 0 else { break }
                kept.change { $0.append(contentsOf: chunk.prefix(count)) }
                guard
                    (try? BoundedIO.write(
                        Array(chunk.prefix(count)), to: entry.descriptor, deadline: .now + .seconds(30))) != nil
                else { break }
                if kibibytesPerMillisecond != nil { usleep(1000) }
            }
            entry.shutDown()
        }
    }

    var bytes: [UInt8] { kept.value }
}

/// The stock stream of a Remus run, walked by the lengths that Xen's specifications give.
enum StockWalk {
    private static let libxlHeaderBytes = 16
    private static let libxcHeadersBytes = 24 + 16
    private static let recordHeaderBytes = 8
    private static let libxcContext: UInt32 = 1
    private static let checkpointEnd: UInt32 = 4
    private static let checkpoint: UInt32 = 0xE

    /// Where each whole epoch ends: behind its CHECKPOINT_END.
    static func epochEnds(_ bytes: [UInt8]) -> [Int] {
        var ends: [Int] = []
        var offset = libxlHeaderBytes
        var isLibxc = false
        while let (type, length) = record(bytes, at: offset) {
            offset += length
            switch (isLibxc, type) {
            case (false, libxcContext):
                isLibxc = true
                offset += libxcHeadersBytes
            case (true, checkpoint):
                isLibxc = false
            case (false, checkpointEnd):
                isLibxc = true
                ends.append(offset)
            default:
                break
            }
        }
        return ends
    }

    private static func record(_ bytes: [UInt8], at offset: Int) -> (type: UInt32, length: Int)? {
        guard bytes.count - offset >= recordHeaderBytes else { return nil }
        let (type, body) = bytes.withUnsafeBytes {
            (
                $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self),
                Int($0.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self))
            )
        }
        let length = recordHeaderBytes + (body + 7) / 8 * 8
        return bytes.count - offset >= length ? (type, length) : nil
    }
}
